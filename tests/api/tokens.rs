//! `POST`, `GET` and `DELETE /v1/tokens`.

use reqwest::Method;
use serde_json::{Value, json};
use taskbell::task::Timestamp;

use super::super::support::{HttpResponse, Server};
use super::{is_time, log_head, pointers, raw_http};

const PATH: &str = "/v1/tokens";

async fn list(server: &Server, query: &str) -> HttpResponse {
    let answer = server.get(&format!("{PATH}{query}")).await;
    assert_eq!((answer.status, &answer.body["position"]), (200, &json!(answer.position())), "{}", answer.text);
    answer
}

fn ids(answer: &HttpResponse) -> Vec<String> {
    answer.body["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_shown_once_and_then_listed_without_its_text() {
    let mut server = Server::start();
    let full = json!({
        "subject": "render farm", "role": "worker", "kinds": ["video.render", "video.cut"],
        "expires_at": "2099-01-01T01:00:00+01:00",
    });
    let answer = server.post(PATH, &full).await;
    assert_eq!((answer.status, answer.position()), (201, 1), "{}", answer.text);
    let mut said = answer.body.clone();
    let text = said["token"].as_str().unwrap().to_owned();
    assert_eq!(text, format!("tb_{}_{}", answer.id().replace('-', ""), &text[36..]));
    assert_eq!(text.len(), 3 + 32 + 1 + 64);
    assert!(is_time(&said["created_at"]));
    for (field, value) in [
        ("subject", json!("render farm")),
        ("role", json!("worker")),
        ("kinds", json!(["video.render", "video.cut"])),
        ("created_by", json!("local")),
        ("expires_at", json!("2099-01-01T00:00:00.000000Z")),
        ("revoked_at", Value::Null),
        ("last_used_at", Value::Null),
        ("position", json!(1)),
    ] {
        assert_eq!(said[field], value, "{field}: {}", answer.text);
    }
    let simple = server.post(PATH, &json!({"subject": "anna", "role": "user"})).await;
    assert_eq!((&simple.body["kinds"], &simple.body["expires_at"]), (&Value::Null, &Value::Null));

    for field in ["token", "position"] {
        said.as_object_mut().unwrap().remove(field);
    }
    let listed = list(&server, "?order=asc").await;
    assert_eq!((&listed.body["items"][0], ids(&listed)), (&said, vec![answer.id(), simple.id()]));
    server.restart();
    assert_eq!(list(&server, "?order=asc").await.body, listed.body);
}

#[tokio::test]
async fn a_request_with_a_token_comes_from_its_subject() {
    let server = Server::start();
    let anna = server.token_of("user").await;
    let created = server.post_as(&anna.text, "/v1/tasks", &json!({"kind": "a"})).await;
    assert_eq!((created.status, &created.body["owner"]), (201, &json!("anna")), "{}", created.text);
    let log = server.get("/v1/log?type=Created").await;
    let event: Value = serde_json::from_str(log.text.trim()).unwrap();
    assert_eq!((&event["meta"]["actor"], &event["meta"]["via"]), (&json!("anna"), &json!("http")));
    let admin = server.create_token(&json!({"subject": "root", "role": "admin"})).await;
    let by_admin =
        server.post_as(&admin.text, PATH, &json!({"subject": "bea", "role": "auditor", "expires_in_s": 60})).await;
    assert_eq!((by_admin.status, &by_admin.body["created_by"]), (201, &json!("root")), "{}", by_admin.text);
    let time = |field: &str| by_admin.body[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(time("expires_at").since(time("created_at")).as_secs(), 60);
}

#[tokio::test]
async fn only_an_admin_creates_lists_and_revokes_tokens() {
    let server = Server::start();
    let victim = server.token_of("user").await;
    let path = format!("{PATH}/{}", victim.id);
    for role in ["user", "operator", "auditor", "worker"] {
        let other = server.token_of(role).await;
        let head = log_head(&server).await;
        let body = json!({"subject": "anna", "role": "admin"});
        for answer in [
            server.post_as(&other.text, PATH, &body).await,
            // A role that may not create tokens learns nothing about the body.
            server.post_as(&other.text, PATH, &json!({"x": 1})).await,
            server.get_as(&other.text, PATH).await,
            server.send_as(&other.text, Method::DELETE, &path, None).await,
            server.send_as(&other.text, Method::DELETE, &format!("{PATH}/{}", uuid::Uuid::now_v7()), None).await,
        ] {
            let detail = answer.assert_problem(403, "forbidden").body["detail"].as_str().unwrap();
            assert!(detail.contains(role), "{detail}");
        }
        assert_eq!(log_head(&server).await, head);
    }
    let admin = server.token_of("admin").await;
    assert_eq!(server.get_as(&admin.text, PATH).await.status, 200);
    assert_eq!(server.send_as(&admin.text, Method::DELETE, &path, None).await.status, 204);
}

#[tokio::test]
async fn a_token_that_breaks_a_rule_is_refused_and_nothing_is_recorded() {
    let server = Server::start();
    let worker = |kinds: Value| json!({"subject": "w", "role": "worker", "kinds": kinds});
    let subject = |subject: &str| json!({"subject": subject, "role": "user"});
    let expiry = |field: &str, value: Value| json!({"subject": "anna", "role": "user", field: value});
    let both = json!({"subject": "a", "role": "user", "expires_in_s": 5, "expires_at": "2099-01-01T00:00:00Z"});
    for (body, pointer) in [
        (subject(""), "/subject"),
        (subject(" "), "/subject"),
        (subject("a,b"), "/subject"),
        (subject("a\nb"), "/subject"),
        (subject("a\u{202e}b"), "/subject"),
        (subject(&"x".repeat(129)), "/subject"),
        (subject("system"), "/subject"),
        (subject("local"), "/subject"),
        (subject("local/host/1"), "/subject"),
        (json!({"subject": "anna", "role": "root"}), "/role"),
        (json!({"subject": "anna", "role": ""}), "/role"),
        (json!({"subject": "anna", "role": "user", "kinds": ["a"]}), "/kinds"),
        (json!({"subject": "anna", "role": "admin", "kinds": []}), "/kinds"),
        (worker(json!([])), "/kinds"),
        (worker(json!(vec!["a"; 65])), "/kinds"),
        (worker(json!(["a", "B"])), "/kinds/1"),
        (worker(json!(["taskbell.bulk-cancel"])), "/kinds/0"),
        (expiry("expires_at", json!("2020-01-01T00:00:00Z")), "/expires_at"),
        (expiry("expires_in_s", json!(0)), "/expires_in_s"),
        (both, "/expires_in_s"),
        (expiry("x", json!(1)), "/x"),
        (json!({"role": "user"}), ""),
        (json!({"subject": "anna"}), ""),
    ] {
        let answer = server.post(PATH, &body).await;
        let problem = answer.assert_problem(422, "invalid_request");
        assert_eq!(pointers(problem).first(), Some(&pointer), "{body}: {}", answer.text);
    }
    for value in [json!(-1), json!(1.5), json!("1"), json!(true)] {
        server.post(PATH, &expiry("expires_in_s", value)).await.assert_problem(422, "invalid_request");
    }
    server.post(PATH, &expiry("expires_at", json!("tomorrow"))).await.assert_problem(422, "invalid_request");
    raw_http::post(&server, PATH, b"{").assert_problem(400, "malformed_json");
    server.post(&format!("{PATH}?x=1"), &subject("anna")).await.assert_problem(422, "invalid_request");
    assert_eq!(log_head(&server).await["position"], 0);
    let longest = subject(&"ä".repeat(128));
    assert_eq!(server.post(PATH, &longest).await.status, 201);
    assert_eq!(server.post(PATH, &worker(json!(vec!["a"; 64]))).await.status, 201);
    let far = server.post(PATH, &expiry("expires_in_s", json!(u64::MAX))).await;
    assert_eq!(far.body["expires_at"], "9999-12-30T22:00:00.000000Z", "the last time that there is: {}", far.text);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_revoking_it_again_changes_nothing() {
    let mut server = Server::start();
    let token = server.token_of("user").await;
    assert_eq!(server.get_as(&token.text, "/v1/tasks").await.status, 200);
    let path = format!("{}{PATH}/{}", server.url(), token.id);
    let revoked = server.send(server.client().delete(&path).json(&json!({"reason": "left the team"}))).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    let head = log_head(&server).await;
    let refused = server.get_as(&token.text, "/v1/tasks").await;
    assert_eq!(refused.assert_problem(401, "unauthenticated").header("www-authenticate"), "Bearer");
    assert_eq!(server.revoke_token(&token.id).await.status, 204);
    assert_eq!(log_head(&server).await, head);
    let row = list(&server, "").await.body["items"][0].clone();
    assert_eq!((&row["id"], is_time(&row["revoked_at"])), (&json!(token.id), true), "{row}");
    let event: Value = serde_json::from_str(server.get("/v1/log?type=TokenRevoked").await.text.trim()).unwrap();
    assert_eq!(
        (&event["data"]["reason"], &event["stream"]),
        (&json!("left the team"), &json!(format!("token-{}", token.id)))
    );
    server.restart();
    server.get_as(&token.text, "/v1/tasks").await.assert_problem(401, "unauthenticated");
    for id in [&uuid::Uuid::now_v7().to_string(), "x", "%00", &token.id.to_uppercase()] {
        server.revoke_token(id).await.assert_problem(404, "not_found");
    }
    let long = json!({"reason": "x".repeat(1025)});
    let answer = server.send(server.client().delete(&path).json(&long)).await;
    assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/reason"]);
    assert_eq!(log_head(&server).await, head);
}

#[tokio::test]
async fn every_page_of_the_tokens_leads_to_the_next_and_back() {
    let server = Server::start();
    let mut created = Vec::new();
    for n in 0..5 {
        created.push(server.create_token(&json!({"subject": format!("s{n}"), "role": "user"})).await.id);
    }
    for order in ["asc", "desc"] {
        let mut expected = created.clone();
        if order == "desc" {
            expected.reverse();
        }
        let query = |cursor: &Value| match cursor.as_str() {
            Some(cursor) => format!("?order={order}&limit=2&cursor={cursor}"),
            None => format!("?order={order}&limit=2"),
        };
        let mut page = list(&server, &query(&Value::Null)).await;
        assert_eq!((&page.body["prev"], &page.body["total"]), (&Value::Null, &json!(5)));
        for part in [&expected[..2], &expected[2..4]] {
            assert_eq!(ids(&page), part);
            page = list(&server, &query(&page.body["next"])).await;
        }
        assert_eq!((ids(&page), &page.body["next"]), (expected[4..].to_vec(), &Value::Null));
        page = list(&server, &query(&page.body["prev"])).await;
        assert_eq!(ids(&page), expected[2..4]);
        page = list(&server, &query(&page.body["prev"])).await;
        assert_eq!((ids(&page), &page.body["prev"]), (expected[..2].to_vec(), &Value::Null));
    }
    let ascending = list(&server, "?order=asc&limit=2").await.body["next"].as_str().unwrap().to_owned();
    for query in [
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?order=up",
        "?cursor=00",
        &format!("?cursor={ascending}"),
        "?x=1",
        "?as_of=1",
        "?min_position=x",
    ] {
        let name = query[1..].split('=').next().unwrap();
        let answer = server.get(&format!("{PATH}{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [format!("/query/{name}")], "{query}");
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_shown_and_not_recorded() {
    let mut server = Server::start();
    let token = server.token_of("user").await;
    let last_use = async |server: &Server| list(server, "").await.body["items"][0]["last_used_at"].clone();
    assert_eq!(last_use(&server).await, Value::Null);
    let before = taskbell::store::now();
    assert_eq!(server.get_as(&token.text, "/v1/tasks").await.status, 200);
    let used = last_use(&server).await;
    assert!(is_time(&used) && used.as_str().unwrap().ends_with(".000000Z"), "{used}");
    let used: Timestamp = used.as_str().unwrap().parse().unwrap();
    assert!(before.since(used).as_secs() < 1 && used <= taskbell::store::now());
    let other = token.text.replace('_', "__");
    server.get_as(&other, "/v1/tasks").await.assert_problem(401, "unauthenticated");
    assert_eq!(log_head(&server).await["position"], 1);
    server.restart();
    assert_eq!(last_use(&server).await, Value::Null, "it is in the memory of the process only");
}

#[tokio::test]
async fn neither_a_token_nor_its_secret_is_found_anywhere_else() {
    let mut server = Server::start();
    let token = server.token_of("admin").await;
    let secret = token.text.rsplit('_').next().unwrap().to_owned();
    let hash = blake3::hash(token.text.as_bytes()).to_hex().to_string();
    let mut texts = vec![("the list".to_owned(), server.get_as(&token.text, PATH).await.text)];
    let sent = server.post_as(&token.text, "/v1/tasks", &json!({"kind": "not a kind"})).await;
    texts.push(("a problem".to_owned(), sent.assert_problem(422, "invalid_request").text.clone()));
    let wrong = server.get_as(&token.text[..token.text.len() - 1], PATH).await;
    texts.push(("a refusal".to_owned(), wrong.assert_problem(401, "unauthenticated").text.clone()));
    for (name, text) in &texts {
        assert!(!text.contains(&hash), "the hash is in {name}: {text}");
    }
    for path in ["/v1/log", "/metrics", "/readyz"] {
        texts.push((path.to_owned(), server.get_as(&token.text, path).await.text));
    }
    assert!(texts[3].1.contains(&hash), "the log holds the hash: {}", texts[3].1);
    assert_eq!(server.revoke_token(&token.id).await.status, 204);
    assert!(server.stop().success());
    texts.push(("stderr".to_owned(), server.stderr()));
    let mut files = 0;
    for file in std::fs::read_dir(server.data()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        files += 1;
        texts.push((path.display().to_string(), String::from_utf8_lossy(&bytes).into_owned()));
    }
    assert!(files > 0 && texts.iter().any(|(name, text)| name.contains("data") && text.contains(&hash)), "the file");
    for (name, text) in &texts {
        assert!(!text.contains(&secret), "the secret is in {name}");
    }
}
