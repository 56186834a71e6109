//! A credential that ends while a request is sent, or whose subject has lost a role, does nothing any more.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::support::{Server, TEST_TIMEOUT};

/// A request whose head the server has accepted, and whose body is not sent yet.
struct HalfRequest {
    stream: TcpStream,
    body: String,
}

impl HalfRequest {
    async fn send(server: &Server, token: &str, path: &str, body: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
            server.address(),
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The server asks for the body when it has authenticated the request and the handler waits.
        let mut wanted = [0; 25];
        tokio::time::timeout(TEST_TIMEOUT, stream.read_exact(&mut wanted)).await.unwrap().unwrap();
        assert_eq!(&wanted, b"HTTP/1.1 100 Continue\r\n\r\n");
        Self { stream, body: body.to_owned() }
    }

    /// The status of the response.
    async fn finish(mut self) -> u16 {
        // The server may have closed the connection already.
        let _ = self.stream.write_all(self.body.as_bytes()).await;
        let mut start = [0; 12];
        tokio::time::timeout(TEST_TIMEOUT, self.stream.read_exact(&mut start)).await.unwrap().unwrap();
        String::from_utf8_lossy(&start[9..]).parse().unwrap()
    }
}

#[tokio::test]
async fn a_request_whose_token_is_revoked_before_the_end_of_its_body_is_refused_and_does_nothing() {
    let server = Server::start();
    let admin = server.token_of("admin").await;
    let new_admin = json!({"subject": "mallory", "role": "admin"}).to_string();
    for (path, body) in [("/v1/tokens", new_admin.as_str()), ("/v1/tasks", r#"{"kind":"a"}"#), ("/v1/tickets", "{ }")] {
        let token = server.token_of("admin").await;
        let half = HalfRequest::send(&server, &token.text, path, body).await;
        assert_eq!(server.revoke_token(&token.id).await.status, 204);
        assert_eq!(half.finish().await, 401, "{path}");
    }
    let tokens = server.get_as(&admin.text, "/v1/tokens").await;
    assert!(!tokens.text.contains("mallory"), "{}", tokens.text);
    assert_eq!(server.get("/v1/tasks?owner=*").await.body["total"], 0);
}

#[tokio::test]
async fn a_session_whose_token_is_revoked_opens_no_other_session() {
    let server = Server::start();
    let token = server.create_token(&json!({"subject": "anna", "role": "operator"})).await;
    let opened = server.send(server.client().post(server.url() + "/v1/session").bearer_auth(&token.text)).await;
    assert_eq!(opened.status, 201, "{}", opened.text);
    let cookie = opened.header("set-cookie").split(['=', ';']).nth(1).unwrap().to_owned();
    for body in ["{ }", r#"{"subject":"bea"}"#] {
        let half = HalfRequest::send(&server, &cookie, "/v1/session", body).await;
        if body == "{ }" {
            drop(half);
            continue;
        }
        assert_eq!(server.revoke_token(&token.id).await.status, 204);
        assert_eq!(half.finish().await, 401);
    }
}

#[tokio::test]
async fn a_subject_has_at_most_a_hundred_sessions() {
    let server = Server::start();
    let token = server.create_token(&json!({"subject": "anna", "role": "user"})).await;
    let open = || server.send(server.client().post(server.url() + "/v1/session").bearer_auth(&token.text));
    for _ in 0..100 {
        assert_eq!(open().await.status, 201);
    }
    open().await.assert_problem(429, "too_many_requests");
}

#[tokio::test]
async fn a_subject_that_is_no_operator_any_more_cannot_repeat_its_bulk_cancel_of_everyone() {
    let server = Server::start();
    let operator = server.create_token(&json!({"subject": "dave", "role": "operator"})).await;
    let filter = json!({"filter": {"owner": "*", "kind": "a"}});
    let bulk = server.post_as(&operator.text, "/v1/tasks/cancel", &filter).await;
    assert_eq!(bulk.status, 202, "{}", bulk.text);
    let id = bulk.body["task"]["id"].as_str().unwrap().to_owned();
    server.task_at_end(&id).await;
    let user = server.create_token(&json!({"subject": "dave", "role": "user"})).await;
    let path = format!("/v1/tasks/{id}/retry");
    server.post_as(&user.text, &path, &json!({})).await.assert_problem(404, "not_found");
    assert_eq!(server.post_as(&operator.text, &path, &json!({})).await.status, 202);
}
