//! `Idempotency-Key`: all requests with one key create one task.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::json;
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::event::{Created, Idempotency};
use taskbell::task::{Event, TaskId};

use super::super::support::{HttpResponse, Server, task_template};
use super::{log_head, pointers, raw_http};

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

/// A server that starts on a log whose one task was created with this key, by a body of this hash.
async fn with_recorded_key(key: &str, body_hash: &str) -> (Server, TaskId) {
    let mut server = Server::start();
    server.stop();
    let idempotency = Some(Idempotency { key: key.to_owned(), body_hash: body_hash.to_owned() });
    let created = Created { idempotency, ..task_template().task(new_id()) };
    let meta =
        Meta { actor: "local".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = Event::Created(Arc::new(created)).into();
    let id = TaskId::from_uuid(new_id());
    let events = vec![NewEvent { id: new_id(), time: now(), meta, event }];
    let store = EventStore::open(&server.data()).unwrap();
    store.append(Append { stream: StreamName::task(id), expected: Expected::NoStream, events }).await.unwrap();
    drop(store);
    server.restart();
    (server, id)
}

/// The hash was computed by the version before: of the parsed body, with numbers as a parser rounds them.
#[tokio::test]
async fn a_key_of_a_log_whose_hashes_have_no_version_still_finds_its_task() {
    let hash = "e70e9eeb2a001af603590aeb4273e543a04502a20d4ce26619cf87ff7ae80c66";
    let (server, id) = with_recorded_key("k", hash).await;
    let body = r#"{"kind":"a","input":{"b":[1.50,1E5,-0,-0.0,100000000000000000000,18446744073709551615,-9223372036854775808,-9223372036854775809,0.1],"a":"\u0041\/\u00fc\n\u2028ü"},"labels":{"z":"1","a":"2"}}"#;
    let again = post(&server, "k", body).await;
    assert_eq!((again.status, again.id()), (200, id.to_string()), "{}", again.text);
    post(&server, "k", r#"{"kind":"a"}"#).await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_new_hash_is_recorded_with_its_version() {
    let server = Server::start();
    post(&server, "k", r#"{"kind":"a"}"#).await;
    let log = server.get("/v1/log").await.text;
    assert!(log.contains(r#""idempotency":{"key":"k","body_hash":"2:"#), "{log}");
}

#[tokio::test]
async fn a_key_beside_the_fields_of_a_single_task_is_refused() {
    let server = Server::start();
    for key in ["\"k\"", "null"] {
        let body = format!(r#"{{"kind":"a","idempotency_key":{key}}}"#);
        let response = raw_http::post(&server, "/v1/tasks", body.as_bytes());
        assert_eq!(pointers(response.assert_problem(422, "invalid_request")), ["/idempotency_key"]);
    }
    let item = r#"{"items":[{"idempotency_key":"k","kind":"a","input":[1.50]}]}"#;
    let item = raw_http::post(&server, "/v1/tasks/batch", item.as_bytes());
    let single = post(&server, "k", r#"{"kind":"a", "input":[1.50]}"#).await;
    assert_eq!(
        (single.status, single.body["id"].as_str()),
        (200, item.body["items"][0]["id"].as_str()),
        "{}",
        item.text
    );
}
