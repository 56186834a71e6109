//! `Idempotency-Key`: all requests with one key create one task.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::json;

use super::super::support::{HttpResponse, Server};
use super::{log_head, raw_http};

async fn post(server: &Server, key: &str, body: &'static str) -> HttpResponse {
    let request = server.client().post(server.url() + "/v1/tasks").header("Idempotency-Key", key);
    server.send(request.header("Content-Type", "application/json").body(body)).await
}

#[tokio::test]
async fn the_same_key_gets_the_same_task_also_after_a_restart() {
    let mut server = Server::start();
    let first = post(&server, "k", r#"{"kind": "a", "input": {"x": 1, "y": [2]}}"#).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let reordered = r#"{"input":{"y":[2],"x":1},  "kind":"a"}"#;
    let again = post(&server, "k", reordered).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "{}", again.text);
    assert_eq!(again.body, first.body);
    let other = r#"{"kind": "a", "input": {"x": 2, "y": [2]}}"#;
    post(&server, "k", other).await.assert_problem(422, "idempotency_key_reused");
    post(&server, "k", r#"{"kind": "a"}"#).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(post(&server, "K", other).await.status, 201, "another key, another task");
    server.restart();
    let again = post(&server, "k", reordered).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "{}", again.text);
    post(&server, "k", other).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(log_head(&server).await["position"], 2);
}

#[tokio::test]
async fn a_key_belongs_to_the_caller_and_not_to_the_owner_of_the_task() {
    let server = Server::start();
    let first = post(&server, "k", r#"{"kind": "a", "owner": "ann"}"#).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let again = post(&server, "k", r#"{"kind": "a", "owner": "ann"}"#).await;
    assert_eq!((again.status, again.id()), (200, first.id()), "{}", again.text);
    post(&server, "k", r#"{"kind": "a", "owner": "bob"}"#).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_create_one_task() {
    let server = Server::start();
    let answers = join_all((0..50).map(|_| post(&server, "k", r#"{"kind": "a"}"#))).await;
    let ids: HashSet<String> = answers.iter().map(HttpResponse::id).collect();
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 201)));
    assert_eq!((ids.len(), created), (1, 1));
    assert_eq!(log_head(&server).await["position"], 1);
}

#[tokio::test]
async fn a_request_that_was_refused_leaves_its_key_free() {
    let server = Server::start();
    post(&server, "k", r#"{"kind": "NO"}"#).await.assert_problem(422, "invalid_request");
    assert_eq!(post(&server, "k", r#"{"kind": "a"}"#).await.status, 201);
}

#[tokio::test]
async fn an_accepted_request_gets_its_task_again_from_a_server_that_takes_fewer_kinds() {
    let mut server = Server::start();
    let first = post(&server, "k", r#"{"kind": "a"}"#).await;
    std::fs::write(server.data().with_file_name("taskbell.toml"), "kinds = [\"b\"]").unwrap();
    server.restart();
    let again = post(&server, "k", r#"{"kind": "a"}"#).await;
    assert_eq!((again.status, again.body["id"].as_str()), (200, Some(&*first.id())), "{}", again.text);
    post(&server, "other", r#"{"kind": "a"}"#).await.assert_problem(422, "invalid_request");
}

#[tokio::test]
async fn a_key_is_one_line_of_1_to_255_characters() {
    let server = Server::start();
    let body = json!({"kind": "a"}).to_string();
    let post = |keys: &str| {
        let headers = format!("{keys}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
        raw_http::raw(&server, "POST /v1/tasks", &headers, body.as_bytes())
    };
    for keys in [
        "Idempotency-Key: \r\n".to_owned(),
        format!("Idempotency-Key: {}\r\n", "k".repeat(256)),
        "Idempotency-Key: ü\r\n".to_owned(),
        "Idempotency-Key: a\r\nIdempotency-Key: b\r\n".to_owned(),
    ] {
        post(&keys).assert_problem(422, "invalid_request");
    }
    assert_eq!(log_head(&server).await["position"], 0);
    assert_eq!(post(&format!("Idempotency-Key: {}\r\n", "k".repeat(255))).status, 201);
}
