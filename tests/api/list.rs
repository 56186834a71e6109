//! `GET /v1/tasks`: filters, order and pages.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::support::Server;
use super::{assert_all_fields, pointers};

/// Creates seven tasks. Returns their ids, the oldest first.
async fn create_seven_tasks(server: &Server) -> Vec<String> {
    let parent = server.submit(&json!({"kind": "a", "title": "Alpha beta"})).await;
    let mut ids = vec![parent.clone()];
    for body in [
        json!({"kind": "a", "title": "Beta gamma", "queue": "q1", "labels": {"team": "x", "tier": "1"}}),
        json!({"kind": "b", "title": "ÄRGER 100% a+b", "queue": "q1", "owner": "ann", "labels": {"team": "x"}}),
        json!({"kind": "b", "title": "delta", "parent": parent, "labels": {"team": "y:z"}}),
        json!({"kind": "c", "title": "epsilon", "parent": parent, "owner": "ann"}),
        json!({"kind": "c", "title": "zeta", "run_at": "2999-01-01T00:00:00Z", "queue": "q2"}),
        json!({"kind": "c", "title": "eta", "owner": "bob smith"}),
    ] {
        ids.push(server.submit(&body).await);
    }
    let cancelled = server.post(&format!("/v1/tasks/{}/cancel", ids[6]), &json!({})).await;
    assert_eq!(cancelled.status, 202, "{}", cancelled.text);
    ids
}

/// The indices in `ids` of the tasks in the list, in the list's order. Asserts that `total` is their number.
async fn listed_indices(server: &Server, query: &str, ids: &[String]) -> Vec<usize> {
    let answer = server.get(&format!("/v1/tasks?{query}")).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    assert_eq!(answer.body["position"], answer.position(), "{query}");
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(answer.body["total"], items.len(), "{query}");
    for task in items {
        assert_all_fields(task, false);
    }
    items.iter().map(|task| ids.iter().position(|id| task["id"] == **id).expect("one of ours")).collect()
}

#[tokio::test]
async fn every_filter_finds_its_tasks_alone_and_combined() {
    let server = Server::start();
    let ids = create_seven_tasks(&server).await;
    let third = server.task(&ids[2]).await["created_at"].as_str().unwrap().to_owned();
    let ended = server.task(&ids[6]).await["finished_at"].as_str().unwrap().to_owned();
    let parent = &ids[0];
    for (query, wanted) in [
        (String::new(), vec![6, 5, 4, 3, 2, 1, 0]),
        ("order=asc".into(), vec![0, 1, 2, 3, 4, 5, 6]),
        ("status=cancelled".into(), vec![6]),
        ("status=scheduled,cancelled".into(), vec![6, 5]),
        ("status=running".into(), vec![]),
        ("kind=a".into(), vec![1, 0]),
        ("kind=a,b,nothing".into(), vec![3, 2, 1, 0]),
        ("queue=q1,q2".into(), vec![5, 2, 1]),
        ("owner=ann".into(), vec![4, 2]),
        ("owner=ann,bob+smith".into(), vec![6, 4, 2]),
        ("owner=bob%20smith".into(), vec![6]),
        ("label=team:x".into(), vec![2, 1]),
        ("label=team:x&label=tier:1".into(), vec![1]),
        ("label=team:y:z".into(), vec![3]),
        ("q=BETA".into(), vec![1, 0]),
        ("q=beta+gam".into(), vec![1]),
        ("q=%C3%A4rger".into(), vec![2]),
        ("q=100%25".into(), vec![2]),
        ("q=a%2Bb".into(), vec![2]),
        ("q=nowhere".into(), vec![]),
        (format!("created_after={third}"), vec![6, 5, 4, 3]),
        (format!("created_before={third}"), vec![1, 0]),
        (format!("finished_after={third}"), vec![6]),
        (format!("finished_after={ended}"), vec![]),
        ("finished_before=2999-01-01T00:00:00%2B01:00".into(), vec![6]),
        (format!("parent={parent}"), vec![4, 3]),
        (format!("parent={parent}&owner=ann&kind=c,b"), vec![4]),
        (format!("owner=local&status=queued&kind=b&parent={parent}&label=team:y:z&q=del&order=asc"), vec![3]),
        (format!("queue=default&status=queued&created_before={third}"), vec![0]),
        ("owner=ann&queue=q1&kind=b&status=queued&limit=200".into(), vec![2]),
    ] {
        assert_eq!(listed_indices(&server, &query, &ids).await, wanted, "{query}");
    }
}

/// The titles of a page, and its cursors `next` and `prev`.
fn page(body: &Value) -> (Vec<&str>, Option<&str>, Option<&str>) {
    let titles = body["items"].as_array().unwrap().iter().map(|task| task["title"].as_str().unwrap()).collect();
    (titles, body["next"].as_str(), body["prev"].as_str())
}

#[tokio::test]
async fn pages_lead_to_the_end_and_back_in_both_orders_without_a_gap_or_a_repeat() {
    let server = Server::start();
    let items: Vec<Value> =
        (0..25).map(|n| json!({"kind": if n % 5 == 0 { "b" } else { "a" }, "title": format!("t{n:02}")})).collect();
    let batch = server.post("/v1/tasks/batch", &json!({"items": items})).await;
    assert_eq!(batch.status, 200, "{}", batch.text);
    for query in ["order=desc", "order=asc", "order=desc&kind=a", "order=asc&q=t", "owner=local&status=queued"] {
        let all = server.get(&format!("/v1/tasks?{query}&limit=200")).await;
        let (whole, none, nothing) = page(&all.body);
        assert_eq!((none, nothing), (None, None));
        let (mut seen, mut pages, mut cursor): (Vec<String>, Vec<Vec<String>>, String) = Default::default();
        loop {
            let answer = server.get(&format!("/v1/tasks?{query}&limit=7{cursor}")).await;
            let (titles, next, prev) = page(&answer.body);
            assert_eq!((&answer.body["total"], prev.is_some()), (&json!(whole.len()), !pages.is_empty()), "{query}");
            pages.push(titles.iter().map(ToString::to_string).collect());
            seen.extend(titles.iter().map(ToString::to_string));
            let Some(next) = next else {
                cursor = prev.unwrap_or_default().to_owned();
                break;
            };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, whole, "{query}");
        for wanted in pages.iter().rev().skip(1) {
            let answer = server.get(&format!("/v1/tasks?{query}&limit=7&cursor={cursor}")).await;
            let (titles, next, prev) = page(&answer.body);
            assert_eq!(titles, *wanted, "{query}: back");
            assert!(next.is_some());
            cursor = prev.unwrap_or_default().to_owned();
        }
        assert_eq!(cursor, "", "{query}: the first page has no prev");
    }
}

#[tokio::test]
async fn a_cursor_stays_valid_while_tasks_are_created_and_belongs_to_one_list() {
    let server = Server::start();
    for n in 0..4 {
        server.submit(&json!({"kind": "a", "title": format!("t{n}")})).await;
    }
    let first = server.get("/v1/tasks?limit=2").await;
    let cursor = page(&first.body).1.unwrap().to_owned();
    server.submit(&json!({"kind": "a", "title": "new"})).await;
    let second = server.get(&format!("/v1/tasks?limit=2&cursor={cursor}")).await;
    assert_eq!(page(&second.body).0, ["t1", "t0"]);
    let flipped = format!("{}{}", if cursor.starts_with('0') { '1' } else { '0' }, &cursor[1..]);
    let long = "0".repeat(5000);
    for query in [
        format!("order=asc&cursor={cursor}"),
        format!("kind=a&cursor={cursor}"),
        format!("cursor={flipped}"),
        format!("cursor={}", &cursor[1..]),
        format!("cursor={}", cursor.to_uppercase()),
        format!("cursor={long}"),
        "cursor=%00".into(),
        "cursor=-1".into(),
        "cursor=%F0%9F%94%94".into(),
    ] {
        let answer = server.get(&format!("/v1/tasks?{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/query/cursor"], "{query}");
    }
}

#[tokio::test]
async fn an_invalid_query_is_refused_with_the_name_of_the_field() {
    let server = Server::start();
    for (query, wanted) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=1.5", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("limit=", "limit"),
        ("limit=5&limit=5", "limit"),
        ("status=", "status"),
        ("status=done", "status"),
        ("status=Queued", "status"),
        ("status=queued,", "status"),
        ("status=queued&status=running", "status"),
        ("kind=A", "kind"),
        ("kind=,", "kind"),
        ("queue=a%20b", "queue"),
        ("owner=%00", "owner"),
        ("owner=a,,b", "owner"),
        ("label=x", "label"),
        ("label=:x", "label"),
        ("label=x:", "label"),
        ("label=", "label"),
        ("q=", "q"),
        ("q=+", "q"),
        ("q=a&q=b", "q"),
        ("created_after=yesterday", "created_after"),
        ("created_before=2026-01-01", "created_before"),
        ("finished_after=2026-01-01T00:00:00", "finished_after"),
        ("finished_before=2026-13-01T00:00:00Z", "finished_before"),
        ("parent=x", "parent"),
        ("parent=0197AAAA-0000-7000-8000-000000000000", "parent"),
        ("order=up", "order"),
        ("order=DESC", "order"),
        ("as_of=1", "as_of"),
        ("as_of=then", "as_of"),
        ("min_position=x", "min_position"),
        ("min_position=-1", "min_position"),
        ("unknown=1", "unknown"),
        ("Status=queued", "Status"),
        ("a~b/c=1", "a~0b~1c"),
        ("cursor=", "cursor"),
    ] {
        let answer = server.get(&format!("/v1/tasks?{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [format!("/query/{wanted}")], "{query}");
    }
    for query in ["q=%ff", "q=%C3%28", "%ff=1", "label=%ED%A0%80:x"] {
        let answer = server.get(&format!("/v1/tasks?{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/query"], "{query}");
    }
    let many = "&label=k:v".repeat(65);
    server.get(&format!("/v1/tasks?{many}")).await.assert_problem(422, "invalid_request");
    assert_eq!(server.get("/v1/tasks?limit=1").await.status, 200);
    assert_eq!(server.get("/v1/tasks?limit=200").await.status, 200);
}

#[tokio::test]
async fn routes_refuse_every_field_that_they_do_not_have() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for path in [format!("/v1/tasks/{id}"), format!("/v1/tasks/{id}/events"), "/v1/counters".into()] {
        server.get(&format!("{path}?x=1")).await.assert_problem(422, "invalid_request");
    }
    for path in ["/v1/log/head", "/v1/live", "/healthz", "/readyz"] {
        server.get(&format!("{path}?x=1")).await.assert_problem(422, "invalid_request");
    }
    for path in ["/v1/tasks", "/v1/tasks/batch", "/v1/tasks/cancel", "/v1/bell/seen"] {
        server.post(&format!("{path}?x=1"), &json!({"kind": "a"})).await.assert_problem(422, "invalid_request");
    }
    for verb in ["cancel", "retry"] {
        let answer = server.post(&format!("/v1/tasks/{id}/{verb}?x=1"), &json!({})).await;
        answer.assert_problem(422, "invalid_request");
    }
    assert_eq!(server.get("/v1/log/head").await.body["position"], 1);
}

#[tokio::test]
async fn a_read_waits_for_its_min_position_and_is_refused_as_behind_where_it_does_not_come() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for path in
        ["/v1/tasks".to_owned(), format!("/v1/tasks/{id}"), format!("/v1/tasks/{id}/events"), "/v1/counters".into()]
    {
        let answer = server.get(&format!("{path}?min_position=1")).await;
        assert_eq!((answer.status, answer.position()), (200, 1), "{path}");
    }
    let another = json!({"kind": "a"});
    let (waited, _) = tokio::join!(server.get("/v1/tasks?min_position=2"), server.submit(&another));
    assert_eq!((waited.status, &waited.body["total"]), (200, &json!(2)), "{}", waited.text);
    for path in ["/v1/tasks".to_owned(), format!("/v1/tasks/{id}"), "/v1/counters".into()] {
        // An invalid query is refused without waiting.
        let answer = server.get(&format!("{path}?min_position=9&unknown=1")).await;
        answer.assert_problem(422, "invalid_request");
    }
    let begun = std::time::Instant::now();
    let id = &id;
    let paths =
        ["/v1/tasks?", &format!("/v1/tasks/{id}?"), "/v1/counters?"].map(|path| format!("{path}min_position=3"));
    let late = join_all(paths.iter().map(|path| server.get(path))).await;
    for answer in late {
        answer.assert_problem(503, "behind");
        assert_eq!((&answer.body["retryable"], answer.header("retry-after")), (&json!(true), "1"));
    }
    let took = begun.elapsed().as_secs_f64();
    assert!((4.5..15.0).contains(&took), "{took} s");
}
