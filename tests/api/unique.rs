//! `unique_key`: at most one task of an owner with the same key is not final.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};
use super::{event_types, log_head, pointers, raw_http};

const PATH: &str = "/v1/tasks";

async fn cancel(server: &Server, id: &str) {
    let answer = server.post(&format!("{PATH}/{id}/cancel"), &json!({})).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("cancelled")), "{}", answer.text);
}

async fn with_idempotency(server: &Server, key: &str, body: &Value) -> HttpResponse {
    server.send(server.client().post(server.url() + PATH).header("Idempotency-Key", key).json(body)).await
}

#[tokio::test]
async fn a_request_with_a_key_that_is_held_gets_the_holder_and_writes_nothing() {
    let server = Server::start();
    let body = json!({"kind": "a", "unique_key": "prices", "title": "first"});
    let first = server.post(PATH, &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let before = log_head(&server).await;
    for body in [&body, &json!({"kind": "b", "unique_key": "prices", "queue": "q", "run_at": "2999-01-01T00:00:00Z"})] {
        let held = server.post(PATH, body).await;
        assert_eq!((held.status, &held.body), (200, &first.body), "{}", held.text);
        assert_eq!((held.header("location"), held.position()), ("", 1), "it is no new task");
    }
    assert_eq!(log_head(&server).await, before);
    for other in [
        json!({"kind": "a", "unique_key": "Prices"}),
        json!({"kind": "a", "unique_key": "prices", "owner": "ann"}),
        json!({"kind": "a"}),
    ] {
        assert_eq!(server.post(PATH, &other).await.status, 201, "{other}");
    }
    cancel(&server, &first.id()).await;
    let next = server.post(PATH, &body).await;
    assert_eq!(next.status, 201, "a final task holds no key: {}", next.text);
    assert_ne!(next.id(), first.id());
}

#[tokio::test]
async fn fifty_concurrent_requests_with_one_key_create_one_task() {
    let server = Server::start();
    for round in 0..5 {
        let body = json!({"kind": "a", "unique_key": format!("round {round}")});
        let answers = join_all((0..50).map(|_| server.post(PATH, &body))).await;
        let new: Vec<&HttpResponse> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(new.len(), 1);
        assert!(answers.iter().all(|answer| answer.id() == new[0].id() && [200, 201].contains(&answer.status)));
    }
    assert_eq!(log_head(&server).await["position"], 5);
}

#[tokio::test]
async fn a_batch_creates_one_task_for_each_key() {
    let server = Server::start();
    let holder = server.submit(&json!({"kind": "a", "unique_key": "held"})).await;
    let items = json!({"items": [
        {"kind": "a", "unique_key": "x"},
        {"kind": "b", "unique_key": "held"},
        {"kind": "b", "unique_key": "x", "idempotency_key": "i"},
        {"kind": "c", "unique_key": "x", "owner": "ann"},
        {"kind": "c", "unique_key": "x", "title": ""},
    ]});
    let answer = server.post("/v1/tasks/batch", &items).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items[1]["id"], json!(holder));
    assert!(items[0]["id"].is_string() && items[0]["id"] == items[2]["id"], "{}", answer.text);
    assert!(items[3]["id"].is_string() && items[3]["id"] != items[0]["id"], "{}", answer.text);
    assert_eq!(items[4]["problem"]["code"], "invalid_request", "{}", answer.text);
    assert_eq!(log_head(&server).await["position"], 3);
}

#[tokio::test]
async fn an_idempotency_key_is_checked_first_and_recorded_with_the_task_that_it_created() {
    let server = Server::start();
    let body = json!({"kind": "a", "unique_key": "u"});
    let first = with_idempotency(&server, "i", &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let held = with_idempotency(&server, "j", &body).await;
    assert_eq!((held.status, held.id()), (200, first.id()), "{}", held.text);
    cancel(&server, &first.id()).await;
    let same = with_idempotency(&server, "i", &body).await;
    assert_eq!((same.status, same.id()), (200, first.id()), "the same request, whatever became of it: {}", same.text);
    let other = json!({"kind": "b", "unique_key": "u"});
    with_idempotency(&server, "i", &other).await.assert_problem(422, "idempotency_key_reused");
    let fresh = with_idempotency(&server, "j", &other).await;
    assert_eq!(fresh.status, 201, "nothing was created under it before: {}", fresh.text);
    assert_ne!(fresh.id(), first.id());
}

#[tokio::test]
async fn a_task_whose_key_another_task_holds_can_not_be_retried() {
    let mut server = Server::start();
    let body = json!({"kind": "a", "unique_key": "u"});
    let first = server.submit(&body).await;
    let retry = format!("{PATH}/{first}/retry");
    server.post(&retry, &json!({})).await.assert_problem(409, "not_final");
    cancel(&server, &first).await;
    let second = server.submit(&body).await;
    server.restart();
    let refused = server.post(&retry, &json!({})).await;
    assert!(refused.assert_problem(409, "unique_key_taken").text.contains(&second), "{}", refused.text);
    let held = server.post(PATH, &body).await;
    assert_eq!((held.status, held.id()), (200, second.clone()), "also after a restart: {}", held.text);
    assert_eq!(event_types(&server, &first).await, ["Created", "CancelRequested", "Completed"]);
    cancel(&server, &second).await;
    let again = server.post(&retry, &json!({})).await;
    assert_eq!((again.status, &again.body["status"]), (202, &json!("queued")), "{}", again.text);
    let held = server.post(PATH, &body).await;
    assert_eq!((held.status, held.id()), (200, first.clone()), "one more run holds the key again: {}", held.text);
    let refused = server.post(&format!("{PATH}/{second}/retry"), &json!({})).await;
    assert!(refused.assert_problem(409, "unique_key_taken").text.contains(&first), "{}", refused.text);
}

#[tokio::test]
async fn concurrent_retries_and_creates_leave_one_task_that_is_not_final() {
    let server = Server::start();
    let body = json!({"kind": "a", "unique_key": "u"});
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(server.submit(&body).await);
        cancel(&server, ids.last().unwrap()).await;
    }
    let retries = ids.iter().map(|id| (format!("{PATH}/{id}/retry"), json!({})));
    let requests: Vec<(String, Value)> = retries.chain((0..10).map(|_| (PATH.to_owned(), body.clone()))).collect();
    let answers = join_all(requests.iter().map(|(path, body)| server.post(path, body))).await;
    let won = answers.iter().filter(|answer| [201, 202].contains(&answer.status)).count();
    let refused_or_known = answers.iter().filter(|answer| [200, 409].contains(&answer.status)).count();
    assert_eq!(
        (won, refused_or_known),
        (1, 19),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    let queued = server.get(&format!("{PATH}?status=queued")).await;
    assert_eq!(queued.body["total"], 1);
}

#[tokio::test]
async fn invalid_keys_and_queues_are_refused_also_where_the_key_is_held() {
    let server = Server::start();
    let good = json!({"kind": "a", "unique_key": "k".repeat(128), "concurrency_key": "ü".repeat(64)});
    let id = server.submit(&good).await;
    let recorded = server.get(&format!("{PATH}/{id}/events")).await;
    for name in ["unique_key", "concurrency_key"] {
        assert_eq!(recorded.body["items"][0]["data"][name], good[name]);
    }
    for name in ["unique_key", "concurrency_key"] {
        for bad in [json!(""), json!(" "), json!("k".repeat(129)), json!("ü".repeat(65)), json!("a\nb"), json!(5)] {
            let answer = server.post(PATH, &json!({"kind": "a", name: bad})).await;
            assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [format!("/{name}")], "{bad}");
        }
    }
    let mut bad = good.clone();
    bad["title"] = json!("");
    assert_eq!(pointers(server.post(PATH, &bad).await.assert_problem(422, "invalid_request")), ["/title"]);
    for queue in ["taskbell.system", "taskbell.", "taskbell.x"] {
        let answer = server.post(PATH, &json!({"kind": "a", "queue": queue})).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/queue"], "{queue}");
    }
    raw_http::post(&server, PATH, br#"{"kind":"a","unique_key":"a","unique_key":"b"}"#)
        .assert_problem(422, "invalid_request");
    assert_eq!(server.post(PATH, &json!({"kind": "a", "queue": "taskbell"})).await.status, 201);
    assert_eq!(log_head(&server).await["position"], 2);
}
