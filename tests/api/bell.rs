//! `GET /v1/counters` and `POST /v1/bell/seen`.

use serde_json::{Value, json};

use super::super::support::{HttpResponse, LiveSocket, Server};
use super::{log_head, pointers};

const STATUSES: [&str; 8] =
    ["scheduled", "queued", "running", "cancelling", "retrying", "succeeded", "failed", "cancelled"];

async fn counters(server: &Server, owner: &str) -> Value {
    let answer = server.get(&format!("/v1/counters{owner}")).await;
    assert_eq!((answer.status, &answer.body["position"]), (200, &json!(answer.position())), "{}", answer.text);
    let mut names: Vec<&str> = answer.body["counts"].as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut wanted = STATUSES.to_vec();
    wanted.sort_unstable();
    assert_eq!(names, wanted, "every status has its count");
    answer.body
}

async fn mark_seen(server: &Server, position: u64) -> HttpResponse {
    server.post("/v1/bell/seen", &json!({"position": position})).await
}

#[tokio::test]
async fn counters_are_exact_for_each_owner() {
    let server = Server::start();
    assert_eq!(counters(&server, "").await["position"], 0);
    for (owner, run_at) in [("ann", Value::Null), ("ann", json!("2999-01-01T00:00:00Z")), ("bob", Value::Null)] {
        server.submit(&json!({"kind": "a", "owner": owner, "run_at": run_at})).await;
    }
    let cancelled = server.submit(&json!({"kind": "a", "owner": "ann"})).await;
    server.post(&format!("/v1/tasks/{cancelled}/cancel"), &json!({})).await;
    let ann = counters(&server, "?owner=ann").await;
    let counted: Vec<u64> = STATUSES.iter().map(|status| ann["counts"][status].as_u64().unwrap()).collect();
    assert_eq!(counted, [1, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!(ann["unseen"], json!({"succeeded": 0, "failed": 0, "cancelled": 1}));
    assert_eq!(ann["position"], log_head(&server).await["position"]);
    let unknown = counters(&server, "?owner=unknown").await;
    assert!(STATUSES.iter().all(|status| unknown["counts"][status] == 0), "{unknown}");
    for query in ["owner=", "owner=*,a", "owner=a,*", "owner=a,", "owner=%00", "owner=a&owner=b"] {
        let answer = server.get(&format!("/v1/counters?{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/query/owner"], "{query}");
    }
}

#[tokio::test]
async fn the_list_the_counters_and_the_socket_of_a_caller_show_the_same_tasks() {
    let server = Server::start();
    for owner in ["ann", "bob", "local"] {
        server.submit(&json!({"kind": "a", "owner": owner})).await;
    }
    for (query, queued) in [("", 3), ("?owner=*", 3), ("?owner=local", 1), ("?owner=nobody", 0)] {
        let total = server.get(&format!("/v1/tasks{query}")).await.body["total"].clone();
        let counted = counters(&server, query).await["counts"]["queued"].clone();
        let mut live = LiveSocket::open_path(&server, &format!("/v1/live{query}")).await;
        let pushed = live.next_of_type("snapshot").await["counts"]["queued"].clone();
        assert_eq!((total, counted, pushed), (json!(queued), json!(queued), json!(queued)), "{query:?}");
    }
}

#[tokio::test]
async fn counters_with_the_filter_of_a_list_count_what_the_list_shows() {
    let server = Server::start();
    let mut tasks = Vec::new();
    for (kind, owner, label) in [("a", "ann", "x"), ("a", "ann", "y"), ("a", "bob", "x"), ("b", "bob", "x")] {
        let body = json!({"kind": kind, "title": format!("{kind} of {owner}"), "owner": owner, "labels": {"l": label}});
        tasks.push(server.submit(&body).await);
    }
    for id in [&tasks[0], &tasks[2], &tasks[3]] {
        server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    }
    // The cancels are the positions 5 to 10.
    assert_eq!(mark_seen(&server, 6).await.status, 204);
    let created = server.task(&tasks[3]).await["created_at"].as_str().unwrap().replace('+', "%2B");
    for (query, queued, cancelled, unseen) in [
        ("kind=a", 1, 2, 1),
        ("kind=a&owner=ann", 1, 1, 1),
        ("kind=a,b&owner=ann,bob", 1, 3, 2),
        ("owner=ann,bob", 1, 3, 2),
        ("queue=default&status=queued", 1, 0, 0),
        ("status=cancelled&owner=bob", 0, 2, 2),
        ("label=l:x", 0, 3, 2),
        ("q=bob", 0, 2, 2),
        (&format!("created_before={created}"), 1, 2, 1),
        (&format!("parent={}", tasks[0]), 0, 0, 0),
        ("finished_after=2999-01-01T00:00:00Z", 0, 0, 0),
    ] {
        let counted = counters(&server, &format!("?{query}")).await;
        let shown = [&counted["counts"]["queued"], &counted["counts"]["cancelled"], &counted["unseen"]["cancelled"]];
        assert_eq!(shown, [&json!(queued), &json!(cancelled), &json!(unseen)], "{query}: {counted}");
        let total = server.get(&format!("/v1/tasks?{query}")).await.body["total"].clone();
        assert_eq!(total, queued + cancelled, "{query}");
    }
    for (query, field) in
        [("colour=red", "colour"), ("limit=5", "limit"), ("cursor=x", "cursor"), ("order=asc", "order")]
    {
        let answer = server.get(&format!("/v1/counters?{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [format!("/query/{field}")], "{query}");
    }
}

#[tokio::test]
async fn nobody_is_named_as_the_filter_names_everyone() {
    let server = Server::start();
    let answer = server.post("/v1/tasks", &json!({"kind": "a", "owner": "*"})).await;
    assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/owner"]);
    let answer = server.get("/v1/tasks?owner=ann,*").await;
    assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/query/owner"]);
}

#[tokio::test]
async fn the_seen_position_only_grows_and_survives_a_restart() {
    let mut server = Server::start();
    for _ in 0..2 {
        let id = server.submit(&json!({"kind": "a"})).await;
        server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    }
    let before = counters(&server, "").await;
    assert_eq!((&before["seen"], &before["unseen"]["cancelled"]), (&json!(0), &json!(2)));
    let answer = mark_seen(&server, 3).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    let after = counters(&server, "").await;
    assert_eq!((&after["seen"], &after["unseen"]["cancelled"]), (&json!(3), &json!(1)), "visible when it is answered");
    let log = log_head(&server).await;
    for position in [0, 2, 3] {
        assert_eq!(mark_seen(&server, position).await.status, 204);
    }
    assert_eq!(log_head(&server).await, log, "what lies before is no news");
    let beyond = log["position"].as_u64().unwrap() + 1;
    for position in [beyond, u64::MAX] {
        assert_eq!(pointers(mark_seen(&server, position).await.assert_problem(422, "invalid_request")), ["/position"]);
    }
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"position": -1}), "/position"),
        (json!({"position": "3"}), "/position"),
        (json!({"position": 1.5}), "/position"),
        (json!({"position": null}), "/position"),
        (json!([3]), ""),
        (json!({"position": 1, "owner": "ann"}), "/owner"),
    ] {
        let answer = server.post("/v1/bell/seen", &body).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
    }
    assert_eq!(log_head(&server).await, log);
    server.restart();
    assert_eq!(counters(&server, "").await, after);
    assert_eq!(mark_seen(&server, beyond - 1).await.status, 204);
    assert_eq!(counters(&server, "").await["unseen"]["cancelled"], 0);
}
