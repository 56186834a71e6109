//! `GET /v1/log` and `GET /v1/log/head`.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use taskbell::task::Timestamp;

use super::super::support::{HttpResponse, Server, TEST_TIMEOUT};
use super::{is_time, log_head, pointers};

fn lines(answer: &HttpResponse) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/x-ndjson"), "{}", answer.text);
    assert!(answer.text.is_empty() || answer.text.ends_with('\n'));
    answer.text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

fn positions(answer: &HttpResponse) -> Vec<u64> {
    lines(answer).iter().map(|event| event["position"].as_u64().unwrap()).collect()
}

/// Creates two tasks, cancels the first, and marks the bell as seen: five events.
async fn create_five_events(server: &Server) -> String {
    let first = server.submit(&json!({"kind": "a"})).await;
    server.submit(&json!({"kind": "b"})).await;
    server.post(&format!("/v1/tasks/{first}/cancel"), &json!({"reason": "r"})).await;
    server.post("/v1/bell/seen", &json!({"position": 4})).await;
    first
}

#[tokio::test]
async fn the_log_gives_every_recorded_event_whole_in_order_and_the_same_again() {
    let mut server = Server::start();
    let empty = log_head(&server).await;
    assert_eq!((&empty["position"], &empty["time"]), (&json!(0), &Value::Null));
    assert_eq!(lines(&server.get("/v1/log").await), Vec::<Value>::new());
    create_five_events(&server).await;
    let answer = server.get("/v1/log").await;
    let events = lines(&answer);
    assert_eq!((positions(&answer), answer.position()), (vec![1, 2, 3, 4, 5], 5));
    let types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["Created", "Created", "CancelRequested", "Completed", "Seen"]);
    let hashes: HashSet<&str> = events.iter().map(|event| event["hash"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), 5);
    for event in &events {
        for name in ["id", "stream", "revision", "position", "type", "version", "time", "meta", "hash", "data"] {
            assert!(!event[name].is_null(), "{name}: {event}");
        }
        for name in ["actor", "via", "correlation_id", "causation_id", "request_id"] {
            assert!(event["meta"].get(name).is_some(), "{name}: {event}");
        }
        assert!(is_time(&event["time"]) && event["hash"].as_str().unwrap().len() == 64, "{event}");
    }
    assert_eq!(events[4]["stream"], "bell-local");
    let last = log_head(&server).await;
    assert_eq!((&last["position"], &last["hash"], &last["time"]), (&json!(5), &events[4]["hash"], &events[4]["time"]));
    assert_eq!(server.get("/v1/log").await.text, answer.text);
    server.restart();
    assert_eq!(server.get("/v1/log").await.text, answer.text, "byte for byte after a restart");
}

/// The fields of a line that the hash chain covers, `meta` and `data` byte for byte.
#[derive(Deserialize)]
struct Link<'a> {
    stream: String,
    revision: u64,
    id: uuid::Uuid,
    #[serde(rename = "type")]
    kind: String,
    version: u32,
    time: Timestamp,
    #[serde(borrow)]
    meta: &'a RawValue,
    #[serde(borrow)]
    data: &'a RawValue,
    hash: String,
}

#[tokio::test]
async fn the_hash_chain_can_be_recomputed_from_the_lines_alone() {
    let server = Server::start();
    let mut previous = log_head(&server).await["hash"].as_str().unwrap().to_owned();
    create_five_events(&server).await;
    let log = server.get("/v1/log").await.text;
    for line in log.lines() {
        let event: Link<'_> = serde_json::from_str(line).unwrap();
        let mut hasher = blake3::Hasher::new();
        hasher.update(blake3::Hash::from_hex(&previous).unwrap().as_bytes());
        for field in [
            event.stream.as_bytes(),
            &event.revision.to_be_bytes(),
            event.id.as_bytes(),
            event.kind.as_bytes(),
            &event.version.to_be_bytes(),
            &event.time.as_micros().to_be_bytes(),
            event.meta.get().as_bytes(),
            event.data.get().as_bytes(),
        ] {
            hasher.update(&(field.len() as u64).to_be_bytes()).update(field);
        }
        previous = hasher.finalize().to_hex().to_string();
        assert_eq!(event.hash, previous, "{line}");
    }
    assert_eq!(log_head(&server).await["hash"], previous.as_str());
}

#[tokio::test]
async fn the_log_can_be_filtered() {
    let server = Server::start();
    let first = create_five_events(&server).await;
    for (query, wanted) in [
        ("after=0".to_owned(), vec![1, 2, 3, 4, 5]),
        ("after=3".into(), vec![4, 5]),
        ("after=5".into(), vec![]),
        ("after=18446744073709551615".into(), vec![]),
        ("limit=2".into(), vec![1, 2]),
        ("after=1&limit=2".into(), vec![2, 3]),
        ("type=Created".into(), vec![1, 2]),
        ("type=Created&limit=1&after=1".into(), vec![2]),
        (format!("stream=task-{first}"), vec![1, 3, 4]),
        (format!("stream=task-{first}&type=Completed"), vec![4]),
        ("stream=bell-local".into(), vec![5]),
        ("stream=bell-stranger".into(), vec![]),
        ("follow=false".into(), vec![1, 2, 3, 4, 5]),
    ] {
        assert_eq!(positions(&server.get(&format!("/v1/log?{query}")).await), wanted, "{query}");
    }
    for query in
        ["after=x", "after=-1", "limit=x", "type=created", "type=", "stream=x", "stream=task-1", "follow=yes", "x=1"]
    {
        let answer = server.get(&format!("/v1/log?{query}")).await;
        let name = query.split('=').next().unwrap();
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [format!("/query/{name}")], "{query}");
    }
}

#[tokio::test]
async fn a_client_that_follows_the_log_gets_new_events() {
    let server = Server::start();
    server.submit(&json!({"kind": "a"})).await;
    let answer = server.client().get(server.url() + "/v1/log?follow=true").send().await.unwrap();
    let (mut body, mut text) = (answer.bytes_stream(), String::new());
    for count in 1..=3 {
        while text.lines().count() < count || !text.ends_with('\n') {
            let chunk = tokio::time::timeout(TEST_TIMEOUT, body.next()).await.expect("a line in time");
            text.push_str(std::str::from_utf8(&chunk.expect("the answer stays open").unwrap()).unwrap());
        }
        server.submit(&json!({"kind": "a"})).await;
    }
    let recorded = server.get("/v1/log?limit=3").await.text;
    assert!(text.starts_with(&recorded), "{text}");
}

#[tokio::test]
async fn a_head_request_with_follow_is_answered_and_ends() {
    let server = Server::start();
    let request = server.client().head(server.url() + "/v1/log?follow=true");
    assert_eq!(server.send(request).await.status, 200);
    let answer = super::raw_http::raw(&server, "HEAD /v1/log?follow=true", "", b"");
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn large_events_are_all_sent_in_order_from_memory_and_from_the_file() {
    let mut server = Server::start();
    for number in 0..5 {
        let large = json!({"kind": "a", "title": format!("large {number}"), "input": "x".repeat(60_000)});
        let small = json!({"kind": "a", "title": format!("small {number}")});
        let items = json!({"items": [small, large.clone(), large]});
        assert_eq!(server.post("/v1/tasks/batch", &items).await.status, 200);
    }
    for _ in 0..2 {
        let text = server.get("/v1/log").await.text;
        let positions: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["position"].as_u64().unwrap())
            .collect();
        assert_eq!(positions, (1..=15).collect::<Vec<_>>());
        server.restart();
    }
}
