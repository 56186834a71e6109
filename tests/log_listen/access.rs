//! Who reads the log of a server with authentication, with the official client: tokens, wrong passwords, and a token that is
//! revoked.

use std::time::{Duration, Instant};

use eventstore::{Client, Error, ReadAllOptions, RecordedEvent};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Tokens, admin, client, client_of, follow, log_url, server_with_tokens};
use crate::support::{Server, certificate_file, http_client};
use crate::tls::flags;

async fn read_all(client: &Client) -> Result<Vec<RecordedEvent>, Error> {
    let (mut events, mut all) = (Vec::new(), client.read_all(&ReadAllOptions::default()).await?);
    while let Some(event) = all.next().await? {
        events.extend(event.event);
    }
    Ok(events)
}

/// The input of the first task, and the members that its event names as redacted.
async fn input_of_the_first_task(client: &Client) -> (Value, Value) {
    let events = read_all(client).await.unwrap();
    let created = events.iter().find(|event| event.event_type == "Created").expect("a task");
    let data: Value = serde_json::from_slice(&created.data).unwrap();
    let metadata: Value = serde_json::from_slice(&created.custom_metadata).unwrap();
    (data["input"].clone(), metadata["redacted"].clone())
}

async fn submit(server: &Server, tokens: &Tokens, title: &str) {
    let task = json!({"kind": "report", "title": title, "input": {"secret": 1}});
    let answer = server.post_as(&tokens.admin, "/v1/tasks", &task).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_an_admin_reads_everything_and_an_auditor_no_inputs() {
    let certificate: Vec<String> = flags("first").into_iter().map(|flag| flag.into_string().unwrap()).collect();
    let certificate: Vec<&str> = certificate.iter().map(String::as_str).collect();
    let (server, tokens) = server_with_tokens(&certificate);
    submit(&server, &tokens, "one").await;
    let trusting = |token: Option<&str>, ca: &str| {
        let ca = certificate_file(ca).display().to_string();
        let user = token.map(|token| format!("someone:{token}@")).unwrap_or_default();
        let url = log_url(&server).replacen("esdb://", &format!("esdb://{user}"), 1);
        client(&format!("{url}&tlsCAFile={ca}&maxDiscoverAttempts=2"))
    };
    assert!(log_url(&server).ends_with("?tls=true"), "{}", log_url(&server));
    let everything = input_of_the_first_task(&trusting(Some(&tokens.admin), "ca.pem")).await;
    assert_eq!(everything, (json!({"secret": 1}), Value::Null));
    let redacted = input_of_the_first_task(&trusting(Some(&tokens.auditor), "ca.pem")).await;
    assert_eq!(redacted, (Value::Null, json!(["/data/input"])));
    for (who, token) in [("a user", Some(&*tokens.user)), ("nobody", None), ("a stranger", Some("tb_0"))] {
        let refused = read_all(&trusting(token, "ca.pem")).await;
        assert!(matches!(refused, Err(Error::AccessDenied)), "{who}: {:?}", refused.map(|events| events.len()));
    }
    let stranger = read_all(&trusting(Some(&tokens.admin), "other-ca.pem")).await;
    assert!(stranger.is_err(), "the server has no certificate of this authority");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_passwords_over_the_rate_are_refused_at_both_doors_and_right_ones_are_not() {
    let (server, tokens) = server_with_tokens(&["--max-failed-authentications-per-s", "1"]);
    submit(&server, &tokens, "one").await;
    let wrong = format!("{}{}", &tokens.admin[..tokens.admin.len() - 8], "00000000");
    let stranger = client_of(&server, "adam", &wrong);
    let mut refused = None;
    for _ in 0..100 {
        match read_all(&stranger).await {
            Err(Error::AccessDenied) => {}
            other => {
                refused = Some(other.map(|events| events.len()));
                break;
            }
        }
    }
    let Some(Err(Error::Grpc { code, message })) = refused else { panic!("{refused:?}") };
    assert_eq!(format!("{code:?}"), "ResourceExhausted");
    let limit =
        "the limit on failed authentications of this address is 1 per second (max_failed_authentications_per_s)";
    assert_eq!(message, limit);
    // The burst of 5 is used up. Between two tries by http a second may pass, in which one more is allowed.
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(server.get_as(&wrong, "/v1/tasks").await.body["code"].clone());
    }
    assert!(codes.contains(&json!("too_many_requests")), "{codes:?}");
    assert_eq!(read_all(&admin(&server, &tokens)).await.unwrap().len(), 4, "three tokens and a task");
    let lines = server.stderr();
    let of_log: Vec<_> = lines.lines().filter(|line| line.contains("a request for the log is refused")).collect();
    for code in ["unauthenticated", "too_many_requests"] {
        assert!(of_log.iter().any(|line| line.contains(code) && line.contains("127.0.0.1")), "{code}: {of_log:?}");
    }
    assert!(!lines.contains(&wrong), "the password is written down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_role_is_written_down_with_its_subject_and_a_use_with_its_time() {
    let (server, tokens) = server_with_tokens(&[]);
    submit(&server, &tokens, "one").await;
    let refused = read_all(&client_of(&server, "una", &tokens.user)).await;
    assert!(matches!(refused, Err(Error::AccessDenied)));
    let lines = server.stderr();
    let line = lines.lines().find(|line| line.contains("a request for the log is refused")).expect("a line");
    assert!(line.contains("una") && line.contains("forbidden"), "{line}");
    let last_use = async || {
        let listed = server.send_as(&tokens.admin, Method::GET, "/v1/tokens", None).await;
        let tokens = listed.body["items"].as_array().expect("tokens").clone();
        tokens.iter().find(|token| token["subject"] == "aida").expect("her token")["last_used_at"].clone()
    };
    assert_eq!(last_use().await, Value::Null);
    read_all(&client_of(&server, "aida", &tokens.auditor)).await.unwrap();
    assert!(last_use().await.is_string(), "{}", last_use().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_ends_within_a_second_of_the_end_of_its_token() {
    let (server, tokens) = server_with_tokens(&[]);
    submit(&server, &tokens, "one").await;
    let mut titles = follow(client_of(&server, "aida", &tokens.auditor));
    assert_eq!(titles.next().await.as_deref(), Some("one"));
    let id: uuid::Uuid = tokens.auditor[3..35].parse().unwrap();
    let request = http_client().delete(format!("{}/v1/tokens/{id}", server.url())).bearer_auth(&tokens.admin);
    let begun = Instant::now();
    let revoked = server.send(request).await;
    assert!(revoked.status < 300, "{}", revoked.text);
    assert_eq!(titles.next().await, None);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let refused = read_all(&client_of(&server, "aida", &tokens.auditor)).await;
    assert!(matches!(refused, Err(Error::AccessDenied)));
    assert_eq!(read_all(&admin(&server, &tokens)).await.unwrap().len(), 5);
}
