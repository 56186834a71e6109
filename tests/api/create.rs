//! `POST /v1/tasks` and `POST /v1/tasks/batch`.

use serde_json::{Value, json};

use super::super::support::Server;
use super::{assert_all_fields, event_types, log_head, pointers, pointers_in, raw_http};

#[tokio::test]
async fn a_task_with_only_a_kind_gets_every_default() {
    let server = Server::start();
    let answer = server.post("/v1/tasks", &json!({"kind": "a.b-c_1"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_all_fields(&answer.body, true);
    assert_eq!(answer.header("location"), format!("/v1/tasks/{}", answer.id()));
    assert_eq!((answer.position(), answer.body["position"].as_u64()), (1, Some(1)));
    let wanted = json!({
        "kind": "a.b-c_1", "title": "a.b-c_1", "owner": "local", "queue": "default", "priority": 0, "labels": {},
        "parent": null, "status": "queued", "waiting_for": "worker", "attempt": 0, "max_attempts": 1, "worker": null,
        "run_at": null, "started_at": null, "finished_at": null, "duration_ms": null, "retry_at": null,
        "timeout_s": null, "progress": null, "outcome": null, "cancel": null, "revision": 0, "input": null,
        "result": null,
    });
    for (name, value) in wanted.as_object().unwrap() {
        assert_eq!(&answer.body[name], value, "{name}");
    }
    assert_eq!(server.task(&answer.id()).await, answer.body, "its page shows what the creation answered");
    let at = answer.header("location").to_owned();
    assert_eq!(server.get(&at).await.position(), 1);
    assert_eq!(log_head(&server).await["position"], 1);
    let none = uuid::Uuid::nil();
    server.get(&format!("/v1/tasks/{none}")).await.assert_problem(404, "not_found");
    server.get(&format!("/v1/tasks/{none}/events")).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_task_keeps_every_field_that_it_was_given() {
    let server = Server::start();
    let parent = server.submit(&json!({"kind": "parent"})).await;
    let mut body = json!({
        "kind": "k", "title": "\u{202e}Zwölf \u{2067}Ölfässer", "input": {"a": [1, 2.5, "\u{0}", null]}, "queue": "q",
        "priority": -7, "run_at": "2999-01-02T03:04:05.123456789+01:00", "max_attempts": 100, "timeout_s": 2_592_000,
        "labels": {"team": "a/b", "x~y": "ü"}, "owner": "another owner", "parent": parent,
    });
    let answer = server.post("/v1/tasks", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_all_fields(&answer.body, true);
    body["run_at"] = json!("2999-01-02T02:04:05.123456Z");
    for (name, value) in body.as_object().unwrap() {
        assert_eq!(&answer.body[name], value, "{name}");
    }
    assert_eq!((&answer.body["status"], &answer.body["waiting_for"]), (&json!("scheduled"), &json!("run_at")));
    assert_eq!(server.task(&answer.id()).await, answer.body);
}

#[tokio::test]
async fn a_run_at_in_the_past_queues_the_task_at_once() {
    let server = Server::start();
    let answer = server.post("/v1/tasks", &json!({"kind": "k", "run_at": "2001-01-01T00:00:00Z"})).await;
    assert_eq!((answer.status, &answer.body["status"]), (201, &json!("queued")), "{}", answer.text);
    assert_eq!(answer.body["run_at"], Value::Null);
}

#[tokio::test]
async fn a_scheduled_task_is_queued_by_an_event_at_its_time() {
    let server = Server::start();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let soon = taskbell::task::Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap() + 1_500_000);
    let id = server.submit(&json!({"kind": "k", "run_at": soon.to_string()})).await;
    let task = server.task_with_status(&id, "queued").await;
    assert_eq!(task["waiting_for"], "worker");
    assert_eq!(event_types(&server, &id).await, ["Created", "Queued"]);
}

#[tokio::test]
async fn a_handler_refuses_an_input_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), None);
    let (inside, outside) = (root.path().join("a"), tempfile::tempdir().unwrap());
    std::fs::create_dir(&inside).unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
    let dots = format!("{}/../../etc", root.path().display());
    for (input, wanted) in [
        (Value::Null, "/input"),
        (json!([]), "/input"),
        (json!({"source": inside}), "/input/targets"),
        (json!({"source": inside, "targets": []}), "/input/targets"),
        (json!({"source": 5, "targets": [root.path().join("b")]}), "/input/source"),
        (json!({"source": inside, "targets": [root.path().join("b")], "more": 1}), "/input/more"),
        (json!({"source": inside, "targets": [root.path().join("b")], "verify": "yes"}), "/input/verify"),
        (json!({"source": inside, "targets": [inside.join("deep")]}), "/input/targets/0"),
        (json!({"source": inside, "targets": [root.path().join("b"), outside.path()]}), "/input/targets/1"),
        (json!({"source": inside, "targets": [dots]}), "/input/targets/0"),
        (json!({"source": inside, "targets": ["relative"]}), "/input/targets/0"),
        (json!({"source": inside, "targets": ["/etc/\u{0}"]}), "/input/targets/0"),
        (json!({"source": "/etc", "targets": [root.path().join("b")]}), "/input/source"),
        (
            json!({"source": format!("{}/../etc", inside.display()), "targets": [root.path().join("b")]}),
            "/input/source",
        ),
    ] {
        let answer = server.post("/v1/tasks", &json!({"kind": "content.distribute", "input": input})).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [wanted], "{input}");
    }
    assert_eq!(log_head(&server).await["position"], 0);
    // The target of a symbolic link is only known when the task runs.
    std::fs::write(inside.join("f"), "f").unwrap();
    let input = json!({"source": inside, "targets": [root.path().join("link/x")]});
    let id = server.submit(&json!({"kind": "content.distribute", "input": input, "max_attempts": 1})).await;
    let end = server.task_at_end(&id).await;
    assert_eq!(end["status"], "failed", "{end}");
    assert_all_fields(&end, true);
    assert!(end["outcome"]["error"]["code"].is_string() && end["outcome"]["error"]["message"].is_string(), "{end}");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn kinds_outside_of_a_closed_list_and_kinds_of_the_server_itself_are_refused() {
    let server = Server::with(["--kinds", "a,b"]);
    server.submit(&json!({"kind": "b"})).await;
    let other = server.post("/v1/tasks", &json!({"kind": "c"})).await;
    assert_eq!(pointers(other.assert_problem(422, "invalid_request")), ["/kind"]);
    for kind in ["taskbell.bulk-cancel", "taskbell.anything"] {
        let answer = server.post("/v1/tasks", &json!({"kind": kind})).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/kind"]);
    }
    assert_eq!(log_head(&server).await["position"], 1);
}

#[tokio::test]
async fn a_batch_answers_in_order_and_accepts_or_refuses_each_item_by_itself() {
    let server = Server::start();
    let items = json!({"items": [
        {"kind": "a", "title": "first"},
        {"kind": "UPPER"},
        {"kind": "b", "idempotency_key": "k"},
        7,
        {"kind": "b", "idempotency_key": "k"},
        {"kind": "c", "idempotency_key": "k"},
        {"kind": "c", "idempotency_key": 5},
        {"kind": "c", "idempotency_key": ""},
        {"kind": "c", "unknown": true},
        {"kind": "z", "title": "last"},
    ]});
    let answer = server.post("/v1/tasks/batch", &items).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["position"], answer.position());
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 10);
    for (index, title) in [(0, "first"), (9, "last")] {
        let id = items[index]["id"].as_str().unwrap();
        assert_eq!(server.task(id).await["title"], title);
    }
    for (index, pointer) in [(1, "/kind"), (3, ""), (6, "/idempotency_key"), (7, "/idempotency_key"), (8, "/unknown")] {
        let problem = &items[index]["problem"];
        assert_eq!((&problem["status"], &problem["code"]), (&json!(422), &json!("invalid_request")), "{problem}");
        assert_eq!(pointers_in(problem), [pointer], "{problem}");
        assert!(problem["request_id"].is_string(), "{problem}");
    }
    let by_key: Vec<&Value> = [2, 4, 5].into_iter().map(|index| &items[index]).collect();
    let ids: Vec<&str> = by_key.iter().filter_map(|item| item["id"].as_str()).collect();
    assert!(ids.windows(2).all(|two| two[0] == two[1]) && !ids.is_empty(), "{by_key:?}");
    let reused = by_key.iter().filter(|item| item["problem"]["code"] == "idempotency_key_reused").count();
    assert_eq!(ids.len() + reused, 3, "{by_key:?}");
    assert_eq!(server.get("/v1/tasks").await.body["total"], 3);
}

/// The items are read and appended in chunks of 200.
#[tokio::test]
async fn the_tasks_of_a_large_batch_are_created_in_the_order_of_its_items() {
    let server = Server::start();
    let is_refused = |index: usize| [0, 199, 200, 450, 999].contains(&index);
    let item = |index: usize| json!({"kind": if is_refused(index) { "UPPER" } else { "k" }, "title": index.to_string(), "input": "x".repeat(200)});
    let answer = server.post("/v1/tasks/batch", &json!({"items": (0..1000).map(item).collect::<Vec<_>>()})).await;
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 1000);
    let mut created = Vec::new();
    for (index, item) in items.iter().enumerate() {
        assert_eq!(item["id"].is_string(), !is_refused(index), "{index}: {item}");
        created.extend(item["id"].as_str().map(|id| (id.to_owned(), index.to_string())));
    }
    let mut listed = Vec::new();
    let mut page = server.get("/v1/tasks?order=asc&limit=200").await.body;
    loop {
        let tasks = page["items"].as_array().unwrap();
        let text = |task: &Value, name: &str| task[name].as_str().unwrap().to_owned();
        listed.extend(tasks.iter().map(|task| (text(task, "id"), text(task, "title"))));
        let Some(next) = page["next"].as_str() else { break };
        page = server.get(&format!("/v1/tasks?order=asc&limit=200&cursor={next}")).await.body;
    }
    assert_eq!(listed, created);
}

#[tokio::test]
async fn a_large_batch_that_is_malformed_at_its_end_creates_nothing() {
    let server = Server::start();
    let item = format!(r#"{{"kind":"k","input":"{}"}}"#, "x".repeat(200));
    let body = format!(r#"{{"items":[{}]}}]"#, vec![item; 1000].join(","));
    raw_http::post(&server, "/v1/tasks/batch", body.as_bytes()).assert_problem(400, "malformed_json");
    assert_eq!(log_head(&server).await["position"], 0);
}

#[tokio::test]
async fn a_batch_has_1_to_1000_items_and_16_mib() {
    let server = Server::start();
    for count in [0, 1001] {
        let answer = server.post("/v1/tasks/batch", &json!({"items": vec![json!({"kind": "k"}); count]})).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), ["/items"]);
    }
    for body in [json!({}), json!({"items": 5}), json!({"items": [], "more": 1}), json!([[]])] {
        server.post("/v1/tasks/batch", &body).await.assert_problem(422, "invalid_request");
    }
    assert_eq!(log_head(&server).await["position"], 0);
    let wide = json!({"kind": "k", "input": "x".repeat(4000)});
    let answer = server.post("/v1/tasks/batch", &json!({"items": vec![wide.clone(); 1000]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body["items"].as_array().unwrap().iter().all(|item| item["id"].is_string()));
    let shown = server.get("/v1/tasks").await;
    assert_eq!((&shown.body["total"], shown.position()), (&json!(1000), 1000), "visible when it is answered");
    let big = json!({"items": vec![json!({"kind": "k", "input": "x".repeat(18_000)}); 1000]});
    server.post("/v1/tasks/batch", &big).await.assert_problem(413, "too_large");
    assert_eq!(log_head(&server).await["position"], 1000);
}
