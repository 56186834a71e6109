//! No secret reaches a log line, an event, a metric or the body of an error: each secret contains a word that no other text has.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::json;

use crate::support::{HttpResponse, Server, TEST_TIMEOUT, taskbell};

/// The word. All secrets of these tests contain it.
const CANARY: &str = "c4n4ry";

fn server(args: &[&str]) -> Server {
    Server::with(["--log", "taskbell=trace"].iter().chain(args))
}

/// Sends a request as bytes, because a client would not send some of these. Returns the whole response.
fn raw(server: &Server, request: &str) -> String {
    let mut socket = TcpStream::connect(server.url().replace("http://", "")).unwrap();
    socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Asserts that the word is in none of the places that others can read.
async fn assert_absent(server: &Server, authorization: Option<&str>, responses: &[String]) {
    for response in responses {
        assert!(!response.contains(CANARY), "a response: {response}");
    }
    for path in ["/v1/log", "/v1/log/head", "/metrics", "/readyz", "/healthz"] {
        let request = server.client().get(server.url() + path);
        let request = authorization.iter().fold(request, |request, value| request.header("authorization", *value));
        let text = server.send(request).await.text;
        assert!(!text.contains(CANARY), "{path}: {text}");
    }
    assert!(!server.stderr().contains(CANARY), "stderr: {}", server.stderr());
}

/// Requests that bring a secret in each place in which a client may put one. Not one of them is right.
fn requests_with_wrong_secrets(host: &str) -> Vec<String> {
    let jwt = format!("eyJhbGciOiJub25lIn0.e30.{CANARY}");
    let head =
        |line: &str, headers: &str| format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
    let mut requests = Vec::new();
    for authorization in [
        format!("Bearer {CANARY}"),
        format!("Bearer tb_0190f3c2a4b87def8123456789abcdef_{CANARY}"),
        format!("Bearer tbs_0190f3c2a4b87def8123456789abcdef_{CANARY}"),
        format!("Bearer {jwt}"),
        format!("Basic {CANARY}"),
        CANARY.to_owned(),
        format!("Bearer {CANARY}\r\nauthorization: Bearer {CANARY}"),
        format!("Bearer \u{1}{CANARY}"),
    ] {
        for line in
            ["GET /v1/tasks", "GET /v1/nowhere", "PUT /v1/tasks", "GET /metrics", "GET /readyz", "OPTIONS *", "GET /"]
        {
            requests.push(head(line, &format!("authorization: {authorization}\r\n")));
        }
    }
    for cookie in ["__Host-taskbell", "__Secure-taskbell", "taskbell"] {
        requests.push(head("GET /v1/tasks", &format!("cookie: {cookie}={CANARY}\r\n")));
        requests.push(head(
            "GET /v1/tasks",
            &format!("cookie: {cookie}=tbs_0190f3c2a4b87def8123456789abcdef_{CANARY}\r\n"),
        ));
    }
    for query in ["ticket", "token", "access_token"] {
        for path in ["/v1/live", "/v1/tasks", "/v1/nowhere", "/v1/log", "/healthz"] {
            requests.push(head(&format!("GET {path}?{query}={CANARY}"), ""));
        }
    }
    let websocket = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\norigin: http://evil.example\r\n";
    requests.push(format!("GET /v1/live?ticket={CANARY} HTTP/1.1\r\nhost: {host}\r\n{websocket}\r\n"));
    for body in [
        format!("{{\"lease\": \"{CANARY}\"}}"),
        format!("{{\"worker\": \"w\", \"leases\": [{{\"lease\": \"{CANARY}\"}}]}}"),
    ] {
        for path in ["/v1/leases/heartbeat", "/v1/leases/cancel-ack", "/v1/leases/finish"] {
            let headers = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
            requests.push(head(&format!("POST {path}"), &headers) + &body);
        }
    }
    requests
}

#[tokio::test]
async fn wrong_secrets_of_clients_are_not_shown_by_an_open_server() {
    let server = server(&[]);
    let host = server.url().replace("http://", "");
    let responses: Vec<String> =
        requests_with_wrong_secrets(&host).iter().map(|request| raw(&server, request)).collect();
    let statuses = |status: &str| responses.iter().filter(|response| response.contains(status)).count();
    assert!(statuses("HTTP/1.1 401") > 10 && statuses("HTTP/1.1 422") > 0, "{responses:#?}");
    assert_absent(&server, None, &responses).await;
}

#[tokio::test]
async fn the_secrets_of_the_settings_and_of_the_proxy_are_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    let settings = format!(
        "[auth.proxy]\naddresses = [\"127.0.0.1\"]\nsubject_header = \"x-user\"\ndefault_role = \"admin\"\n\
         secret = \"{CANARY}-of-the-proxy\"\n"
    );
    std::fs::write(&config, settings).unwrap();
    let server = server(&["--config", config.to_str().unwrap()]);
    let host = server.url().replace("http://", "");
    let mut responses: Vec<String> =
        requests_with_wrong_secrets(&host).iter().map(|request| raw(&server, request)).collect();
    for secret in [format!("{CANARY}-of-the-proxy"), format!("{CANARY}-of-the-proxx")] {
        let headers = format!("x-user: anna\r\nx-taskbell-proxy-secret: {secret}\r\n");
        let head = format!("GET /v1/tasks HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n");
        responses.push(raw(&server, &head));
    }
    let last: Vec<bool> = responses.iter().rev().take(2).map(|response| response.starts_with("HTTP/1.1 200")).collect();
    assert_eq!(last, [false, true]);
    for response in &responses {
        assert!(!response.contains(CANARY), "a response: {response}");
    }
    let log = raw(
        &server,
        &format!(
            "GET /v1/log HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-user: anna\r\nx-taskbell-proxy-secret: {CANARY}-of-the-proxy\r\n\r\n"
        ),
    );
    assert!(log.starts_with("HTTP/1.1 200") && !log.contains(CANARY), "{log}");
    assert!(!server.stderr().contains(CANARY), "stderr: {}", server.stderr());
}

async fn lease(server: &Server) -> String {
    server.submit(&json!({"kind": "canary.work"})).await;
    let take = json!({"worker": "w", "kinds": ["canary.work"], "max": 1, "wait_s": 20});
    let taken: HttpResponse = server.post("/v1/leases", &take).await;
    taken.body["leases"][0]["lease"].as_str().unwrap_or_else(|| panic!("no lease: {}", taken.text)).to_owned()
}

#[tokio::test]
async fn the_secret_of_a_lease_is_shown_to_its_worker_only() {
    let server = server(&[]);
    let lease = lease(&server).await;
    let secret = lease.rsplit('.').next().unwrap().to_owned();
    let wrong = lease.replace(&secret, "0123456789abcdef0123456789abcdef");
    let finish = |lease: &str| json!({"worker": "w", "lease": lease, "outcome": "succeeded"});
    let beat = json!({"worker": "w", "leases": [{"lease": lease}], "wait_s": 0});
    let mut responses: Vec<HttpResponse> = vec![server.post("/v1/leases/heartbeat", &beat).await];
    assert_eq!(responses[0].status, 200, "{}", responses[0].text);
    for lease in [&wrong, &lease, &lease] {
        responses.push(server.post("/v1/leases/cancel-ack", &json!({"worker": "w", "lease": lease})).await);
        responses.push(server.post("/v1/leases/finish", &finish(lease)).await);
    }
    for response in responses.iter().filter(|response| response.status >= 400) {
        assert!(!response.text.contains(&secret), "{}", response.text);
    }
    for path in ["/v1/log", "/v1/tasks", "/metrics", "/readyz"] {
        let text = server.get(path).await.text;
        assert!(!text.contains(&secret), "{path}: {text}");
    }
    assert!(!server.stderr().contains(&secret), "{}", server.stderr());
}

#[cfg(feature = "eventstore")]
#[tokio::test]
async fn the_password_of_a_cluster_is_not_shown_although_the_cluster_refuses_every_connection() {
    // Nothing listens on the reserved port 1.
    let url = format!("esdb://admin:{CANARY}@127.0.0.1:1?tls=false&maxDiscoverAttempts=2");
    let server = Server::on_cluster(&url, ["--log", "taskbell=trace"]);
    let ready = server.get("/readyz").await;
    assert_eq!(ready.status, 503, "{}", ready.text);
    let refused = server.post("/v1/tasks", &json!({"kind": "a"})).await;
    assert_absent(&server, None, &[ready.text, refused.text]).await;
}

#[test]
fn the_command_line_does_not_show_its_token() {
    for token in [CANARY.to_owned(), format!("{CANARY}\u{1}")] {
        for command in [&["list"][..], &["show", "0190f3c2-a4b8-7def-8123-456789abcdef"], &["log", "tail"]] {
            let mut process = taskbell();
            process.args(command).args(["--server", "http://127.0.0.1:1", "--token", &token]);
            let output = process.env("RUST_LOG", "trace").output().unwrap();
            let text =
                [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
            assert!(!output.status.success() && !text.contains(CANARY), "{text}");
        }
    }
}
