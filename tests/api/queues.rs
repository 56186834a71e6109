//! `GET /v1/queues`, `POST /v1/queues/{queue}/pause` and `POST /v1/queues/{queue}/resume`.

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};
use super::{is_time, log_head, pointers, raw_http};

async fn pause(server: &Server, queue: &str, body: &Value) -> HttpResponse {
    server.post(&format!("/v1/queues/{queue}/pause"), body).await
}

async fn resume(server: &Server, queue: &str, body: &Value) -> HttpResponse {
    server.post(&format!("/v1/queues/{queue}/resume"), body).await
}

async fn queues(server: &Server) -> Vec<Value> {
    let answer = server.get("/v1/queues").await;
    assert_eq!((answer.status, &answer.body["position"]), (200, &json!(answer.position())), "{}", answer.text);
    answer.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_queue_is_paused_and_resumed_once_each_and_shows_by_whom_and_why() {
    let mut server = Server::start();
    let first = pause(&server, "night", &json!({"reason": "new disks"})).await;
    assert_eq!((first.status, &first.body["position"]), (200, &json!(1)), "{}", first.text);
    assert_eq!(first.position(), 1);
    let said = |field: &str| first.body[field].clone();
    assert_eq!((said("name"), said("paused"), said("reason")), (json!("night"), json!(true), json!("new disks")));
    assert_eq!(said("paused_by"), "local");
    assert!(is_time(&first.body["paused_at"]));
    assert_eq!(said("counts").as_object().unwrap().len(), 8);
    let again = pause(&server, "night", &json!({"reason": "another"})).await;
    assert_eq!((again.status, &again.body), (200, &first.body), "no news");
    server.restart();
    let mut listed = first.body.clone();
    listed.as_object_mut().unwrap().remove("position");
    assert_eq!(queues(&server).await, [listed]);
    let open = resume(&server, "night", &json!({})).await;
    assert_eq!((open.status, &open.body["paused"]), (200, &json!(false)), "{}", open.text);
    for field in ["paused_at", "paused_by", "reason"] {
        assert_eq!(open.body[field], Value::Null);
    }
    assert_eq!(resume(&server, "night", &json!({})).await.body, open.body);
    let log = server.get("/v1/log?stream=queue-night").await.text;
    let kinds: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].clone()).collect();
    assert_eq!(kinds, ["Paused", "Resumed"]);
    assert!(queues(&server).await.is_empty(), "a queue without tasks that hands out work is nothing to see");
}

#[tokio::test]
async fn the_list_shows_queues_that_have_or_had_tasks_or_are_paused_with_exact_counts() {
    let server = Server::start();
    assert!(queues(&server).await.is_empty());
    for (queue, owner) in [("b", "ann"), ("b", "bob"), ("a", "ann")] {
        server.submit(&json!({"kind": "x", "queue": queue, "owner": owner})).await;
    }
    let cancelled = server.submit(&json!({"kind": "y", "queue": "b"})).await;
    server.post(&format!("/v1/tasks/{cancelled}/cancel"), &json!({})).await;
    pause(&server, "aa", &json!({})).await;
    let at = pause(&server, "b", &json!({})).await.position();
    let answer = server.get(&format!("/v1/queues?min_position={at}")).await;
    assert_eq!(answer.position(), at);
    let seen: Vec<_> = queues(&server)
        .await
        .iter()
        .map(|q| {
            (q["name"].clone(), q["paused"].clone(), q["counts"]["queued"].clone(), q["counts"]["cancelled"].clone())
        })
        .collect();
    let row = |name: &str, paused: bool, queued: u64, cancelled: u64| {
        (json!(name), json!(paused), json!(queued), json!(cancelled))
    };
    assert_eq!(seen, [row("a", false, 1, 0), row("aa", true, 0, 0), row("b", true, 2, 1)]);
}

#[tokio::test]
async fn an_empty_body_is_enough() {
    let server = Server::start();
    for (path, paused) in [("/v1/queues/a/pause", true), ("/v1/queues/a/resume", false)] {
        let answer = server.send(server.client().post(server.url() + path)).await;
        assert_eq!((answer.status, &answer.body["paused"]), (200, &json!(paused)), "{}", answer.text);
    }
}

#[tokio::test]
async fn an_invalid_name_is_not_found_and_queues_of_the_server_itself_cant_be_paused() {
    let server = Server::start();
    for name in ["A", "a%20b", "%00", "a%2Fb", "%C3%A4", "a,b", &"x".repeat(65)] {
        pause(&server, name, &json!({})).await.assert_problem(404, "not_found");
        resume(&server, name, &json!({})).await.assert_problem(404, "not_found");
    }
    for name in ["taskbell.bulk-cancel", "taskbell."] {
        pause(&server, name, &json!({})).await.assert_problem(422, "invalid_request");
        resume(&server, name, &json!({})).await.assert_problem(422, "invalid_request");
    }
    assert_eq!(pause(&server, &"x".repeat(64), &json!({})).await.status, 200);
    assert_eq!(log_head(&server).await["position"], 1);
}

#[tokio::test]
async fn bad_input_to_every_route_is_refused_and_writes_nothing() {
    let server = Server::start();
    for path in ["/v1/queues/a/pause", "/v1/queues/a/resume"] {
        for (body, pointer) in [
            (json!({"reason": 5}), "/reason"),
            (json!({"reason": "x".repeat(1025)}), "/reason"),
            (json!({"why": "x"}), "/why"),
            (json!([null]), ""),
            (json!("x"), ""),
            (Value::Null, ""),
        ] {
            let answer = server.post(path, &body).await;
            assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{path} {body}");
        }
        raw_http::post(&server, path, b"{").assert_problem(400, "malformed_json");
        raw_http::post(&server, path, b"{\"reason\":\"a\",\"reason\":\"b\"}").assert_problem(422, "invalid_request");
        raw_http::post(&server, path, &vec![b' '; 2_000_000]).assert_problem(413, "too_large");
        let headers = "Content-Type: text/plain\r\nContent-Length: 2\r\n";
        raw_http::raw(&server, &format!("POST {path}"), headers, b"{}").assert_problem(415, "unsupported_media_type");
        for query in ["?x=1", "?min_position=1", "?reason=x"] {
            server.post(&format!("{path}{query}"), &json!({})).await.assert_problem(422, "invalid_request");
        }
        let answer = server.get(path).await;
        assert_eq!(answer.assert_problem(405, "method_not_allowed").header("allow"), "POST");
    }
    for query in ["?x=1", "?min_position=-1", "?min_position=", "?as_of=1", "?name=a"] {
        server.get(&format!("/v1/queues{query}")).await.assert_problem(422, "invalid_request");
    }
    let answer = server.post("/v1/queues", &json!({})).await;
    assert_eq!(answer.assert_problem(405, "method_not_allowed").header("allow"), "GET, HEAD");
    for path in ["/v1/queues/a", "/v1/queues/a/drain", "/v1/queues//pause"] {
        server.get(path).await.assert_problem(404, "not_found");
    }
    assert_eq!(log_head(&server).await["position"], 0);
}

#[tokio::test]
async fn a_hundred_concurrent_pauses_are_one_event() {
    let server = Server::start();
    let body = json!({"reason": "all at once"});
    let answers = futures_util::future::join_all((0..100).map(|_| pause(&server, "a", &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body["paused"] == true));
    assert_eq!(log_head(&server).await["position"], 1);
}
