//! `POST`, `GET` and `DELETE /v1/schedules`.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};
use super::{is_time, log_head, pointers, raw_http};

const PATH: &str = "/v1/schedules";

/// A cron expression for once a day, about half a day from now, so that no nominal time passes during a test.
fn far_away() -> String {
    let now = taskbell::store::now().as_micros() / 1_000_000;
    format!("30 {} * * *", (now / 3600 + 12) % 24)
}

fn daily() -> Value {
    json!({"cron": far_away(), "task": {"kind": "a"}})
}

async fn create(server: &Server, body: &Value) -> HttpResponse {
    let answer = server.post(PATH, body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer
}

async fn delete(server: &Server, id: &str) -> HttpResponse {
    server.send(server.client().delete(format!("{}{PATH}/{id}", server.url()))).await
}

async fn list(server: &Server) -> Vec<Value> {
    let answer = server.get(PATH).await;
    assert_eq!((answer.status, &answer.body["position"]), (200, &json!(answer.position())), "{}", answer.text);
    answer.body["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_schedule_is_created_shown_listed_and_removed_once() {
    let mut server = Server::start();
    let full = json!({
        "cron": " 30  2 * *  MON-FRI ", "time_zone": "europe/zurich", "missed": "skip",
        "task": {
            "kind": "content.report", "title": "Report", "input": {"x": [1, null]}, "queue": "night", "priority": -3,
            "max_attempts": 7, "timeout_s": 60, "labels": {"team": "web"}, "owner": "ann",
            "unique_key": "report", "concurrency_key": "disk",
        },
    });
    let answer = create(&server, &full).await;
    let id = answer.id();
    assert_eq!(answer.header("location"), format!("{PATH}/{id}"));
    assert_eq!((answer.position(), &answer.body["position"]), (1, &json!(1)));
    let said = |field: &str| answer.body[field].clone();
    assert_eq!((said("cron"), said("time_zone")), (json!("30 2 * * MON-FRI"), json!("Europe/Zurich")));
    assert_eq!((said("missed"), said("created_by"), said("last_at")), (json!("skip"), json!("local"), Value::Null));
    assert!(is_time(&said("created_at")) && is_time(&said("next_at")));
    assert_eq!(said("task"), full["task"]);

    let second = create(&server, &json!({"cron": "0 0 1 1 *", "task": {"kind": "a"}})).await;
    assert_eq!((&second.body["time_zone"], &second.body["missed"]), (&json!("UTC"), &json!("run_once")));
    assert!(second.body["next_at"].as_str().unwrap().ends_with("-01-01T00:00:00.000000Z"));
    let task = json!({
        "kind": "a", "title": "a", "owner": "local", "input": null, "queue": "default", "priority": 0,
        "max_attempts": 1, "timeout_s": null, "labels": {}, "unique_key": null, "concurrency_key": null,
    });
    assert_eq!(second.body["task"], task, "the answer shows the defaults");

    server.restart();
    let shown = server.get(&format!("{PATH}/{id}?min_position=2")).await;
    let mut expected = answer.body.clone();
    expected["position"] = json!(2);
    assert_eq!((shown.status, &shown.body), (200, &expected));
    expected.as_object_mut().unwrap().remove("position");
    let all = list(&server).await;
    assert_eq!((all.len(), &all[0], &all[1]["id"]), (2, &expected, &json!(second.id())));

    let removed = delete(&server, &id).await;
    assert_eq!((removed.status, removed.text.as_str()), (204, ""));
    delete(&server, &id).await.assert_problem(404, "not_found");
    server.get(&format!("{PATH}/{id}")).await.assert_problem(404, "not_found");
    assert_eq!(list(&server).await.len(), 1);
    server.restart();
    delete(&server, &id).await.assert_problem(404, "not_found");
    let why = server.client().delete(format!("{}{PATH}/{}", server.url(), second.id()));
    assert_eq!(server.send(why.json(&json!({"reason": "done"}))).await.status, 204);
    let log = server.get("/v1/log?type=ScheduleRemoved").await.text;
    let reasons: Vec<Value> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["data"]["reason"].clone()).collect();
    assert_eq!(reasons, [Value::Null, json!("done")]);
    assert_eq!(log_head(&server).await["position"], 4);
}

#[tokio::test]
async fn of_fifty_removals_at_once_one_succeeds() {
    let server = Server::start();
    let id = create(&server, &daily()).await.id();
    let answers = futures_util::future::join_all((0..50).map(|_| delete(&server, &id))).await;
    let removed = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!((removed, answers.iter().filter(|answer| answer.status == 404).count()), (1, 49));
    assert_eq!(log_head(&server).await["position"], 2);
}

fn with(field: &str, value: &Value) -> Value {
    let mut body = daily();
    let (outer, inner) = field.split_once('/').map_or((field, None), |(outer, inner)| (outer, Some(inner)));
    match inner {
        Some(inner) => body[outer][inner] = value.clone(),
        None => body[outer] = value.clone(),
    }
    body
}

#[tokio::test]
async fn a_problem_points_to_each_wrong_field_and_nothing_is_written() {
    let server = Server::start();
    // A task as an array of its fields.
    let row = Value::Array([vec![json!("a")], vec![Value::Null; 10]].concat());
    let long = format!("{} * * * *", vec!["1"; 200].join(","));
    let cases: Vec<(&str, Vec<Value>)> = vec![
        (
            "cron",
            [
                "",
                "* * * *",
                "* * * * * *",
                "@daily",
                "61 * * * *",
                "x",
                ", * * * *",
                "0 0 30 2 *",
                "* * * * *\n",
                &long,
            ]
            .map(Value::from)
            .into(),
        ),
        ("cron", vec![json!(null), json!(5), json!(["*"]), json!({})]),
        ("time_zone", ["", "Mars/Olympus", "+01:00", "../../etc/passwd", "Europe"].map(Value::from).into()),
        ("time_zone", vec![json!(1), json!([]), json!("x".repeat(10_000))]),
        ("missed", ["", "never", "RUN_ALL"].map(Value::from).into()),
        ("missed", vec![json!(1), json!(true)]),
        ("task", vec![json!(null), json!([]), json!("a"), json!({}), row]),
        ("unknown", vec![json!(null), json!(1)]),
        ("id", vec![json!("x")]),
        ("task/kind", vec![json!(""), json!("A"), json!(null), json!("taskbell.bulk-cancel"), json!("x".repeat(65))]),
        ("task/title", vec![json!(""), json!("a\nb"), json!("x".repeat(513)), json!(1)]),
        ("task/queue", vec![json!("Q"), json!(""), json!("taskbell.bulk-cancel")]),
        ("task/owner", vec![json!("a,b"), json!("")]),
        ("task/priority", vec![json!(1.5), json!(2_147_483_648_i64)]),
        ("task/max_attempts", vec![json!(0), json!(101), json!("1")]),
        ("task/timeout_s", vec![json!(0), json!(2_592_001), json!(-1)]),
        ("task/labels", vec![json!("a:b"), json!({"a:b": "c"}), json!({"a": 1}), json!({"a": ""})]),
        ("task/unique_key", vec![json!(""), json!("x".repeat(129)), json!(5)]),
        ("task/concurrency_key", vec![json!(""), json!("a\nb"), json!([])]),
        ("task/run_at", vec![json!("2999-01-01T00:00:00Z")]),
        ("task/parent", vec![json!(uuid::Uuid::nil())]),
        ("task/schedule", vec![json!(uuid::Uuid::nil())]),
        ("task/idempotency_key", vec![json!("k")]),
    ];
    for (field, values) in cases {
        for value in values {
            let body = with(field, &value);
            let answer = server.post(PATH, &body).await;
            let found = pointers(answer.assert_problem(422, "invalid_request"));
            let at = format!("/{field}");
            assert!(found.iter().any(|pointer| pointer.starts_with(&at)), "{body}: {}", answer.text);
        }
    }
    for body in
        [json!({}), json!({"cron": "* * * * *"}), json!({"task": {"kind": "a"}}), json!([]), Value::Null, json!(1)]
    {
        let answer = server.post(PATH, &body).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [""], "{body}");
    }
    let large = with("task/input", &json!("x".repeat(65_536)));
    assert_eq!(pointers(server.post(PATH, &large).await.assert_problem(413, "too_large")), ["/task/input"]);
    assert_eq!(log_head(&server).await["position"], 0);
    assert_eq!(server.post(PATH, &with("task/input", &json!("x".repeat(65_534)))).await.status, 201);
}

#[tokio::test]
async fn a_handler_checks_the_input_of_a_schedule_at_once_and_a_closed_list_of_kinds_holds() {
    let server = Server::with(["--kinds", "a,content.distribute"]);
    let answer = server.post(PATH, &with("task/kind", &json!("content.distribute"))).await;
    let found = pointers(answer.assert_problem(422, "invalid_request"));
    assert!(found.iter().all(|pointer| pointer.starts_with("/task/input")), "{}", answer.text);
    let answer = server.post(PATH, &with("task/kind", &json!("b"))).await;
    assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/task/kind"]);
    create(&server, &daily()).await;
}

#[tokio::test]
async fn bad_requests_to_every_route_are_problems() {
    let server = Server::start();
    let id = create(&server, &daily()).await.id();
    let one = format!("{PATH}/{id}");
    let before = log_head(&server).await;
    for body in [&b""[..], b"{", b"[", b"{\"cron\":}", b"\xff"] {
        raw_http::post(&server, PATH, body).assert_problem(400, "malformed_json");
    }
    raw_http::post(&server, PATH, br#"{"cron":"* * * * *","cron":"* * * * *"}"#).assert_problem(422, "invalid_request");
    let deep = format!(r#"{{"cron":"* * * * *","task":{{"kind":"a","input":{}{}}}}}"#, "[".repeat(33), "]".repeat(33));
    raw_http::post(&server, PATH, deep.as_bytes()).assert_problem(422, "invalid_request");
    let huge = vec![b' '; 2_000_000];
    raw_http::post(&server, PATH, &huge).assert_problem(413, "too_large");
    let length = "Content-Type: application/json\r\nContent-Length: 2000000\r\n";
    raw_http::raw(&server, &format!("DELETE {one}"), length, &huge).assert_problem(413, "too_large");
    let text = "Content-Type: text/plain\r\nContent-Length: 2\r\n";
    for line in [format!("POST {PATH}"), format!("DELETE {one}")] {
        raw_http::raw(&server, &line, text, b"{}").assert_problem(415, "unsupported_media_type");
    }
    for (body, pointer) in [
        (json!({"reason": 1}), "/reason"),
        (json!({"reason": "x".repeat(1025)}), "/reason"),
        (json!({"x": 1}), "/x"),
        (json!([]), ""),
    ] {
        let answer = server.send(server.client().delete(server.url() + &one).json(&body)).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
    }
    server.post(&format!("{PATH}?x=1"), &daily()).await.assert_problem(422, "invalid_request");
    server
        .send(server.client().delete(format!("{}{one}?x=1", server.url())))
        .await
        .assert_problem(422, "invalid_request");
    for query in ["?x=1", "?min_position=x", "?limit=1", "?as_of=1"] {
        server.get(&format!("{PATH}{query}")).await.assert_problem(422, "invalid_request");
        server.get(&format!("{one}{query}")).await.assert_problem(422, "invalid_request");
    }
    let unknown = uuid::Uuid::now_v7();
    for name in ["x", "%00", &id.to_uppercase(), &unknown.to_string(), &format!("{id}x")] {
        server.get(&format!("{PATH}/{name}")).await.assert_problem(404, "not_found");
        delete(&server, name).await.assert_problem(404, "not_found");
    }
    for method in ["PUT", "PATCH", "DELETE", "OPTIONS"] {
        let answer = raw_http::raw(&server, &format!("{method} {PATH}"), "", b"");
        assert_eq!(answer.assert_problem(405, "method_not_allowed").header("allow"), "GET, HEAD, POST");
    }
    for method in ["PUT", "PATCH", "POST"] {
        let answer = raw_http::raw(&server, &format!("{method} {one}"), "Content-Length: 0\r\n", b"");
        assert_eq!(answer.assert_problem(405, "method_not_allowed").header("allow"), "GET, HEAD, DELETE");
    }
    assert_eq!(log_head(&server).await, before);
}

#[tokio::test]
async fn a_schedule_of_every_minute_creates_its_first_task_within_the_minute() {
    let server = Server::start();
    let body =
        json!({"cron": "* * * * *", "task": {"kind": "a", "title": "tick", "labels": {"a": "b"}, "owner": "ann"}});
    let answer = create(&server, &body).await;
    // A request waits at most five seconds, so several requests are needed for a minute.
    for _ in 0..20 {
        if server.get("/v1/counters?min_position=2").await.status == 200 {
            break;
        }
    }
    let tasks = server.get("/v1/tasks?owner=ann").await;
    let task = &tasks.body["items"][0];
    assert_eq!((&task["title"], &task["labels"]), (&json!("tick"), &json!({"a": "b"})), "{}", tasks.text);
    let events = server.get(&format!("/v1/tasks/{}/events", task["id"].as_str().unwrap())).await;
    let (first, origin) = (&events.body["items"][0], server.get("/v1/log?limit=1").await.text);
    let origin: Value = serde_json::from_str(&origin).unwrap();
    assert_eq!(first["data"]["schedule"], json!(answer.id()));
    assert_eq!((&first["meta"]["actor"], &first["meta"]["via"]), (&json!("system"), &json!("scheduler")));
    assert_eq!(first["meta"]["causation_id"], origin["id"]);
    assert_eq!(first["meta"]["correlation_id"], origin["meta"]["correlation_id"]);
    let shown = server.get(&format!("{PATH}/{}", answer.id())).await;
    assert_eq!(shown.body["last_at"], answer.body["next_at"], "{}", shown.text);
    let time = |value: &Value| value.as_str().unwrap().parse::<taskbell::task::Timestamp>().unwrap();
    assert_eq!(time(&shown.body["next_at"]).since(time(&shown.body["last_at"])), Duration::from_mins(1));
}
