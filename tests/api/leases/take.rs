//! Which worker gets which lease, and when.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::api::{event_types, is_time};
use crate::support::TEST_TIMEOUT;

#[tokio::test]
async fn where_nothing_waits_the_answer_is_empty_once_the_time_is_over() {
    let server = Server::start();
    assert!(take_without_waiting(&server, 1).await.is_empty());
    assert!(take(&server, json!({"worker": "w", "wait_s": 0.2})).await.is_empty());
    server.submit(&json!({"kind": "a", "run_at": "2999-01-01T00:00:00Z"})).await;
    assert!(take(&server, json!({"worker": "w", "wait_s": 0.01})).await.is_empty(), "it is scheduled");
}

#[tokio::test]
async fn a_lease_holds_all_that_its_worker_needs_and_the_log_does_not_hold_its_secret() {
    let server = Server::start();
    let task = json!({"kind": "a", "title": "t", "owner": "ann", "input": {"x": [1]}, "labels": {"k": "v"}});
    let id = server.submit(&task).await;
    let leases = take(&server, json!({"worker": "host/1", "kinds": ["a"], "queues": ["default"]})).await;
    let lease = &leases[0];
    assert_eq!((&lease["kind"], &lease["input"], &lease["attempt"]), (&task["kind"], &task["input"], &json!(1)));
    assert_eq!((&lease["title"], &lease["owner"], &lease["labels"]), (&task["title"], &task["owner"], &task["labels"]));
    assert!(is_time(&lease["deadline"]), "{lease}");
    assert!((1..=30_000).contains(&lease["left_ms"].as_u64().unwrap_or_default()), "{lease}");
    assert_eq!(lease.as_object().unwrap().len(), 10, "{lease}");
    let token = token(lease);
    let secret = token.strip_prefix(&format!("{id}.1.")).unwrap();
    let shown = server.task(&id).await;
    assert_eq!(
        (&shown["status"], &shown["worker"], &shown["attempt"]),
        (&json!("running"), &json!("host/1"), &json!(1))
    );
    let log = server.get("/v1/log").await.text;
    assert!(!log.contains(secret) && log.contains(&*blake3::hash(secret.as_bytes()).to_hex()), "{log}");
}

#[tokio::test]
async fn a_waiting_worker_is_served_as_soon_as_a_task_comes() {
    let server = Server::start();
    let wait = |worker: &str| take(&server, json!({"worker": worker, "kinds": ["a"]}));
    let come = async {
        server.get("/healthz").await;
        let first = server.submit(&json!({"kind": "a"})).await;
        [first, server.submit(&json!({"kind": "a"})).await]
    };
    let (one, two, ids) =
        tokio::time::timeout(TEST_TIMEOUT, async { tokio::join!(wait("w1"), wait("w2"), come) }).await.unwrap();
    let mut got = [task_ids(&one), task_ids(&two)].concat();
    got.sort_unstable();
    assert_eq!(got, ids, "each of the two gets one");
}

#[tokio::test]
async fn a_task_whose_time_comes_is_given_to_a_waiting_worker() {
    let server = Server::start();
    let at = (jiff::Timestamp::now() + Duration::from_millis(300)).to_string();
    let id = server.submit(&json!({"kind": "a", "run_at": at})).await;
    assert_eq!(task_ids(&take(&server, json!({"worker": "w"})).await), [&*id]);
    assert_eq!(event_types(&server, &id).await, ["Created", "Queued", "Started"]);
}

#[tokio::test]
async fn a_take_grants_several_leases_and_at_most_max() {
    let server = Server::start();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(server.submit(&json!({"kind": "a"})).await);
    }
    let (three, two) = (take_without_waiting(&server, 3).await, take_without_waiting(&server, 1000).await);
    assert_eq!(
        (task_ids(&three), task_ids(&two)),
        (ids[..3].iter().map(|id| &**id).collect(), ids[3..].iter().map(|id| &**id).collect())
    );
    let secrets: std::collections::HashSet<String> = three.iter().chain(&two).map(token).collect();
    assert_eq!(secrets.len(), 5);
    assert!(take_without_waiting(&server, 1).await.is_empty());
}

#[tokio::test]
async fn only_the_requested_kinds_and_queues_are_granted() {
    let server = Server::start();
    let mut ids = Vec::new();
    for (kind, queue) in [("a", "p"), ("b", "p"), ("a", "q"), ("b", "q")] {
        ids.push(server.submit(&json!({"kind": kind, "queue": queue})).await);
    }
    let of = |more: Value| {
        let mut body = json!({"worker": "w", "max": 9, "wait_s": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        take(&server, body)
    };
    assert!(of(json!({"kinds": ["c"]})).await.is_empty());
    assert!(of(json!({"queues": ["r"]})).await.is_empty());
    assert_eq!(task_ids(&of(json!({"kinds": ["b"], "queues": ["q"]})).await), [&*ids[3]]);
    assert_eq!(task_ids(&of(json!({"kinds": ["c", "a"], "queues": ["p"]})).await), [&*ids[0]]);
    assert_eq!(task_ids(&of(json!({"queues": ["p"]})).await), [&*ids[1]]);
    assert_eq!(task_ids(&of(json!({})).await), [&*ids[2]]);
}

#[tokio::test]
async fn the_higher_priority_goes_first_and_then_the_older_task() {
    let server = Server::start();
    let mut ids = Vec::new();
    for (kind, priority) in [("a", 0), ("b", -1), ("a", 7), ("b", 0), ("b", 7)] {
        ids.push(server.submit(&json!({"kind": kind, "priority": priority})).await);
    }
    let wanted: Vec<&str> = [2, 4, 0, 3, 1].iter().map(|n: &usize| &*ids[*n]).collect();
    assert_eq!(task_ids(&take_without_waiting(&server, 9).await), wanted);
}

#[tokio::test]
async fn a_flood_in_one_queue_does_not_starve_the_others() {
    let server = Server::start();
    for n in 0..30 {
        server.submit(&json!({"kind": "a", "queue": "flood", "priority": 9, "title": n.to_string()})).await;
    }
    let mut few = Vec::new();
    for queue in ["few", "few", "one"] {
        few.push(server.submit(&json!({"kind": "a", "queue": queue})).await);
    }
    let got = take_without_waiting(&server, 6).await;
    assert!(few.iter().all(|id| task_ids(&got).contains(&&**id)), "{got:?}");
}

#[tokio::test]
async fn no_more_run_at_once_than_the_limits_of_kind_and_queue_let() {
    let server = Server::with(["--kind", "a:max_running=1", "--queue", "q:max_running=2"]);
    for (kind, queue) in [("a", "p"), ("a", "p"), ("b", "q"), ("b", "q"), ("b", "q")] {
        server.submit(&json!({"kind": kind, "queue": queue})).await;
    }
    let got = take_without_waiting(&server, 9).await;
    let kinds: Vec<&str> = got.iter().map(|lease| lease["kind"].as_str().unwrap()).collect();
    assert_eq!((kinds.iter().filter(|kind| **kind == "a").count(), kinds.len()), (1, 3), "{got:?}");
    let waiting = server.get("/v1/tasks?status=queued").await.body;
    assert_eq!(waiting["total"], 2);
    assert!(waiting["items"].as_array().unwrap().iter().all(|task| task["waiting_for"] == "limit"), "{waiting}");
    // A waiting request gets the next task when the limit allows another task, not earlier.
    let of = |kind: &str| token(got.iter().find(|lease| lease["kind"] == kind).unwrap());
    let lease = of("a");
    let (next, _) = tokio::join!(take(&server, json!({"worker": "w2", "max": 9})), succeed(&server, &lease));
    assert_eq!((next.len(), &next[0]["kind"]), (1, &json!("a")));
    let (next, _) = tokio::join!(
        take(&server, json!({"worker": "w2", "max": 9})),
        finish(&server, json!({"lease": of("b"), "outcome": "released"}))
    );
    assert_eq!((next.len(), &next[0]["kind"]), (1, &json!("b")), "a lease that was handed back gives its room back");
}

#[tokio::test]
async fn tasks_with_one_concurrency_key_run_one_after_the_other_whatever_their_kind_and_queue() {
    let server = Server::start();
    let mut ids = Vec::new();
    for (kind, queue, key) in [("a", "p", "ann"), ("b", "q", "ann"), ("a", "p", "ben"), ("a", "p", "ann")] {
        ids.push(server.submit(&json!({"kind": kind, "queue": queue, "concurrency_key": key})).await);
    }
    let first = take_without_waiting(&server, 9).await;
    let is_anns = |id: &str| id != ids[2];
    assert_eq!(first.len(), 2, "one of each customer: {first:?}");
    assert!(task_ids(&first).contains(&&*ids[2]), "{first:?}");
    let mut anns = token(first.iter().find(|lease| is_anns(lease["task_id"].as_str().unwrap())).unwrap());
    for _ in 0..2 {
        let waiting = server.get("/v1/tasks?status=queued").await.body;
        assert!(waiting["items"].as_array().unwrap().iter().all(|task| task["waiting_for"] == "limit"), "{waiting}");
        assert!(take_without_waiting(&server, 9).await.is_empty());
        // After each kind of end, the limit allows the next task.
        let end = json!({"lease": anns, "outcome": "failed", "error": {"code": "c", "message": "m"}});
        let (next, _) = tokio::join!(take(&server, json!({"worker": "w", "max": 9})), finish(&server, end));
        assert_eq!(next.len(), 1, "{next:?}");
        anns = token(&next[0]);
    }
}

#[tokio::test]
async fn a_task_shows_what_it_waits_for() {
    let server = Server::with(["--kind", "b:max_running=1"]);
    let waits = async |id: &str| server.task(id).await["waiting_for"].clone();
    let id = server.submit(&json!({"kind": "a", "queue": "q"})).await;
    assert_eq!(waits(&id).await, "worker", "no worker has offered its kind yet");
    assert!(take(&server, json!({"worker": "w", "kinds": ["a"], "queues": ["p"], "wait_s": 0})).await.is_empty());
    assert_eq!(waits(&id).await, "worker", "who asked wants another queue");
    let (b, c) = (server.submit(&json!({"kind": "b"})).await, server.submit(&json!({"kind": "b"})).await);
    assert_eq!(task_ids(&take(&server, json!({"worker": "w", "kinds": ["b"], "wait_s": 0})).await), [&*b]);
    assert_eq!((waits(&b).await, waits(&c).await), (Value::Null, json!("limit")));
    assert_eq!(task_ids(&take(&server, json!({"worker": "w", "kinds": ["a"], "wait_s": 0})).await), [&*id]);
    let id = server.submit(&json!({"kind": "a"})).await;
    assert_eq!(waits(&id).await, Value::Null, "a worker that is known takes it soon");
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_costs_the_task_no_attempt() {
    let server = Server::start();
    let address = server.url().replace("http://", "");
    let body = r#"{"worker":"gone","kinds":["a"]}"#;
    let head = format!("POST /v1/leases HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    for _ in 0..5 {
        let mut socket = TcpStream::connect(&address).unwrap();
        write!(socket, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        server.get("/healthz").await;
        drop(socket);
        let (id, lease) = submit_and_take(&server, "here", json!({"max_attempts": 1})).await;
        assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
        for pair in events(&server, &id).await.windows(2).filter(|pair| pair[0]["data"]["worker"] == "gone") {
            assert_eq!((&pair[1]["type"], &pair[1]["data"]["reason"]), (&json!("Released"), &json!("not_delivered")));
        }
    }
}

#[tokio::test]
async fn a_request_without_a_wait_never_waits_even_if_the_task_is_cancelled_meanwhile() {
    let server = Server::start();
    for _ in 0..60 {
        let id = server.submit(&json!({"kind": "a"})).await;
        let ask = take(&server, json!({"worker": "w", "wait_s": 0}));
        let both = async { tokio::join!(ask, cancel(&server, &id)) };
        let (leases, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.expect("an answer at once");
        for lease in leases {
            finish(&server, json!({"lease": token(&lease), "outcome": "cancelled"})).await;
        }
        assert_eq!(server.task(&id).await["status"], "cancelled");
    }
}
