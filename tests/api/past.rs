//! `as_of`: the list, the counters and a task as they were.

use serde_json::{Value, json};

use super::super::support::Server;
use super::pointers;

/// What a client saw at one position.
struct Seen {
    position: u64,
    /// The time after the last event, before any later one.
    time: String,
    /// The path of each query, and its answer.
    answers: Vec<(String, Value)>,
}

/// Removes what is not in the log: for what a queued task waits, unless its queue is paused.
fn without_workers(mut body: Value) -> Value {
    let forget = |task: &mut Value| {
        if task["waiting_for"] == "worker" || task["waiting_for"] == "limit" {
            task["waiting_for"] = Value::Null;
        }
    };
    if body.get("items").is_none() && body.get("waiting_for").is_some() {
        forget(&mut body);
    }
    body.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(forget);
    body
}

/// Asks everything that `as_of` can be asked of.
async fn look(server: &Server, ids: &[String]) -> Seen {
    let mut paths: Vec<String> =
        ["/v1/tasks?limit=3", "/v1/tasks?status=queued,cancelled&order=asc", "/v1/tasks?q=beta"]
            .into_iter()
            .chain(["/v1/counters?owner=*", "/v1/counters?owner=ann&kind=a", "/v1/tasks?owner=ann&label=team:x"])
            .map(str::to_owned)
            .collect();
    paths.extend(ids.iter().map(|id| format!("/v1/tasks/{id}?min_position=0")));
    let mut answers = Vec::new();
    for path in paths {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answers.push((path, without_workers(answer.body)));
    }
    let position = server.get("/v1/log/head").await.body["position"].as_u64().unwrap();
    let time = jiff::Timestamp::now().to_string();
    Seen { position, time, answers }
}

async fn assert_is_as_seen(server: &Server, seen: &Seen) {
    for as_of in [seen.position.to_string(), seen.time.clone()] {
        for (path, expected) in &seen.answers {
            let answer = server.get(&format!("{path}&as_of={as_of}")).await;
            assert_eq!(answer.status, 200, "{path} as of {as_of}: {}", answer.text);
            assert_eq!(
                without_workers(answer.body.clone()),
                without_cursors(expected, &answer.body),
                "{path} as of {as_of}"
            );
        }
    }
}

/// A cursor names a task, and a list of the past has the same cursors as the list had then.
fn without_cursors(expected: &Value, found: &Value) -> Value {
    assert_eq!((expected.get("next"), expected.get("prev")), (found.get("next"), found.get("prev")));
    expected.clone()
}

/// A server on which much happens, and what was seen in between.
async fn walk(server: &Server) -> (Vec<String>, Vec<Seen>) {
    let (mut ids, mut seen) = (Vec::new(), vec![look(server, &[]).await]);
    for body in [
        json!({"kind": "a", "title": "Alpha beta", "owner": "ann", "input": {"n": 1.50}}),
        json!({"kind": "a", "title": "Beta", "queue": "q1", "owner": "ann", "labels": {"team": "x"}}),
        json!({"kind": "b", "title": "gamma", "run_at": "2999-01-01T00:00:00Z"}),
        json!({"kind": "b", "title": "delta"}),
    ] {
        ids.push(server.submit(&body).await);
        seen.push(look(server, &ids).await);
    }
    server.post("/v1/queues/q1/pause", &json!({"reason": "maintenance"})).await;
    seen.push(look(server, &ids).await);
    server.post(&format!("/v1/tasks/{}/cancel", ids[2]), &json!({"reason": "not needed"})).await;
    seen.push(look(server, &ids).await);
    let taken = server.post("/v1/leases", &json!({"worker": "w", "kinds": ["a", "b"], "max": 2})).await;
    let leases: Vec<Value> = taken.body["leases"].as_array().unwrap().clone();
    assert_eq!(leases.len(), 2, "{}", taken.text);
    seen.push(look(server, &ids).await);
    let ends = json!({"items": [
        {"lease": leases[0]["lease"], "outcome": "succeeded", "message": "beta done", "result": {"copied": 12}},
        {"lease": leases[1]["lease"], "outcome": "failed", "error": {"code": "broken", "message": "no"}, "retryable": false},
    ]});
    server.post("/v1/leases/finish", &ends).await;
    seen.push(look(server, &ids).await);
    let head = server.get("/v1/log/head").await.body["position"].clone();
    server.post("/v1/bell/seen", &json!({"position": head})).await;
    server.post("/v1/queues/q1/resume", &json!({})).await;
    server.post(&format!("/v1/tasks/{}/retry", ids[2]), &json!({})).await;
    seen.push(look(server, &ids).await);
    (ids, seen)
}

#[tokio::test]
async fn the_past_is_exactly_as_it_was_seen_also_after_a_restart() {
    let mut server = Server::start();
    let (ids, seen) = walk(&server).await;
    for seen in seen.iter().rev() {
        assert_is_as_seen(&server, seen).await;
    }
    server.get(&format!("/v1/tasks/{}?as_of=1", ids[3])).await.assert_problem(404, "not_found");
    server.restart();
    for seen in &seen {
        assert_is_as_seen(&server, seen).await;
    }
}

#[tokio::test]
async fn a_moment_that_the_log_does_not_have_is_refused() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for path in ["/v1/tasks?x".to_owned(), "/v1/counters?x".to_owned(), format!("/v1/tasks/{id}?x")] {
        let path = path.trim_end_matches('x');
        for as_of in ["2", "18446744073709551616", "2999-01-01T00:00:00Z", "yesterday", "2026-01-01", "-1"] {
            let answer = server.get(&format!("{path}as_of={as_of}")).await;
            assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/query/as_of"], "{path} {as_of}");
        }
    }
    for path in [format!("/v1/tasks/{id}/events"), "/v1/log".into(), "/v1/queues".into(), "/v1/log/head".into()] {
        server.get(&format!("{path}?as_of=1")).await.assert_problem(422, "invalid_request");
    }
    let empty = server.get("/v1/tasks?as_of=0").await;
    assert_eq!((&empty.body["items"], &empty.body["position"]), (&json!([]), &json!(0)), "{}", empty.text);
    let before_all = server.get("/v1/counters?as_of=2026-01-01T00:00:00Z").await;
    assert_eq!((&before_all.body["counts"]["queued"], before_all.position()), (&json!(0), 0), "{}", before_all.text);
}

#[tokio::test]
async fn a_start_reads_the_snapshot_that_the_stop_has_written_and_only_the_events_after_it() {
    let mut server = Server::with(["--log", "debug"]);
    let ids = walk(&server).await.0;
    let items: Vec<Value> = (0..1000).map(|n| json!({"kind": "bulk", "title": format!("task {n}")})).collect();
    for _ in 0..11 {
        assert_eq!(server.post("/v1/tasks/batch", &json!({"items": items})).await.status, 200);
    }
    let seen = look(&server, &ids).await;
    assert!(server.stop().success());
    let snapshots = server.data().join("snapshots");
    let files = || std::fs::read_dir(&snapshots).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(files().len(), 1, "{:?}", files());
    server.restart();
    assert!(server.stderr().contains("a snapshot of the views is read"), "{}", server.stderr());
    assert_is_as_seen(&server, &seen).await;
    let old = server.get("/v1/counters?owner=*&as_of=3").await;
    assert_eq!(old.position(), 3, "a moment before the snapshot is replayed from the beginning");

    server.submit(&json!({"kind": "after", "title": "after the snapshot"})).await;
    server.kill9();
    let file = files().remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    server.restart();
    assert!(server.stderr().contains("a snapshot of the views is removed"), "{}", server.stderr());
    assert_is_as_seen(&server, &seen).await;
    assert_eq!(server.get("/v1/tasks?kind=after").await.body["total"], 1);
}
