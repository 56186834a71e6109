//! What each role gets from the API, as far as a table of status codes can't show it.

use std::collections::BTreeMap;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::Method;
use serde_json::{Value, json};
use taskbell::http::identity::bearer::{BearerKind, BearerText};
use taskbell::store::{Append, EventStore, Expected, LogEvent, Meta, NewEvent, StreamName, Via, new_id, now};
use taskbell::task::access::Role;
use taskbell::task::token::{TokenCreated, TokenEvent};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::super::support::{HttpResponse, Server, TEST_TIMEOUT, is_final};

type Live = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What no auditor may read.
const CANARY: &str = "canary-in-a-value";

/// A server, and a caller of each role with a token. A caller without a token is the local admin.
struct World {
    server: Server,
    tokens: BTreeMap<&'static str, String>,
}

impl World {
    async fn start() -> Self {
        let mut server = Server::start();
        assert!(server.stop().success());
        let store = EventStore::open(&server.data()).expect("the log of a stopped server");
        let kinds = Some(vec!["a".to_owned()]);
        let mut tokens = BTreeMap::new();
        for (subject, role, kinds) in [
            ("una", Role::User, None),
            ("uwe", Role::User, None),
            ("olaf", Role::Operator, None),
            ("aida", Role::Auditor, None),
            ("walt", Role::Worker, kinds),
            ("adam", Role::Admin, None),
        ] {
            let id = new_id();
            let text = BearerText::generate(BearerKind::Token, id).expect("random bits");
            let created =
                TokenCreated { subject: subject.to_owned(), role, kinds, hash: text.hash(), expires_at: None };
            let event = LogEvent::Token(TokenEvent::TokenCreated(created));
            let actor = "mira".to_owned();
            let meta = Meta { actor, via: Via::Cli, correlation_id: new_id(), causation_id: None, request_id: None };
            let events = vec![NewEvent { id: new_id(), time: now(), meta, event }];
            let stream = StreamName::token(id);
            store.append(Append { stream, expected: Expected::NoStream, events }).await.expect("an append");
            tokens.insert(subject, text.reveal().to_owned());
        }
        drop(store);
        server.restart();
        Self { server, tokens }
    }

    /// Sends a request of this subject, always with the same request id.
    async fn send(&self, subject: &str, method: Method, path: &str, body: &str) -> HttpResponse {
        let request = self.server.client().request(method, self.server.url() + path);
        let request = request.bearer_auth(&self.tokens[subject]).header("x-request-id", "same");
        let request = if body.is_empty() {
            request
        } else {
            request.header("content-type", "application/json").body(body.to_owned())
        };
        self.server.send(request).await
    }

    async fn get(&self, subject: &str, path: &str) -> HttpResponse {
        self.send(subject, Method::GET, path, "").await
    }

    async fn post(&self, subject: &str, path: &str, body: &Value) -> HttpResponse {
        self.send(subject, Method::POST, path, &body.to_string()).await
    }

    /// Opens a websocket of this subject.
    async fn live(&self, subject: &str, query: &str) -> Live {
        let url = format!("{}/v1/live?{query}", self.server.url().replacen("http", "ws", 1));
        let mut request = url.into_client_request().expect("a request");
        let bearer = format!("Bearer {}", self.tokens[subject]).parse().expect("a header");
        request.headers_mut().insert("authorization", bearer);
        tokio_tungstenite::connect_async(request).await.expect("a websocket").0
    }

    /// Creates a task of this subject, and returns its id.
    async fn task_of(&self, subject: &str, kind: &str) -> String {
        self.server.submit(&json!({"kind": kind, "title": format!("of {subject}"), "owner": subject})).await
    }

    /// The lease of the next task of this kind, for a caller without a token.
    async fn lease(&self, kind: &str) -> String {
        let taken = self.server.post("/v1/leases", &json!({"worker": "w", "kinds": [kind], "wait_s": 30})).await;
        taken.body["leases"][0]["lease"].as_str().expect("a lease").to_owned()
    }
}

/// The next text of the socket.
async fn next_frame(live: &mut Live) -> String {
    let message = tokio::time::timeout(TEST_TIMEOUT, live.next()).await.expect("a frame in time");
    message.expect("an open socket").expect("a frame").to_string()
}

/// All of a response that a client can tell from another one: `id` is what the client has named itself.
fn all_of(response: &HttpResponse, id: &str) -> String {
    let headers = response.headers.iter().filter(|(name, _)| name.as_str() != "date");
    let mut headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
    // Their order differs from response to response.
    headers.sort();
    format!("{} {headers:?} {}", response.status, response.text.replace(id, "…"))
}

#[tokio::test]
async fn a_task_of_another_subject_is_answered_like_one_that_does_not_exist() {
    let world = World::start().await;
    let (hidden, absent) = (world.task_of("uwe", "a").await, new_id().to_string());
    let head = world.server.get("/v1/log/head").await.position();
    let ask = async |subject, id: &str| {
        let mut answers = Vec::new();
        for (method, path, body) in [
            (Method::GET, "", ""),
            (Method::HEAD, "", ""),
            (Method::GET, "/events", ""),
            (Method::GET, &format!("?min_position={head}"), ""),
            (Method::GET, &format!("/events?min_position={head}"), ""),
            (Method::POST, "/cancel", "{}"),
            (Method::POST, "/cancel", "not JSON"),
            (Method::POST, "/retry", "{}"),
            (Method::POST, "/escalate", r#"{"rung": "revoke"}"#),
            (Method::POST, "/escalate", "not JSON"),
        ] {
            let answer = world.send(subject, method, &format!("/v1/tasks/{id}{path}"), body).await;
            assert_eq!(answer.status, if body == "not JSON" { 400 } else { 404 }, "{path}: {}", answer.text);
            answers.push(all_of(&answer, id));
        }
        for (path, body) in [
            ("/v1/tasks", json!({"kind": "a", "parent": id})),
            ("/v1/tasks/batch", json!({"items": [{"kind": "a", "parent": id}]})),
        ] {
            let answer = world.post(subject, path, &body).await;
            let shown = all_of(&answer, id);
            assert!(shown.contains("/parent") && shown.contains("there is no such task"), "{shown}");
            answers.push(shown);
        }
        answers
    };
    for subject in ["una", "walt"] {
        assert_eq!(ask(subject, &hidden).await, ask(subject, &absent).await, "{subject}");
    }
    assert_eq!(world.get("uwe", &format!("/v1/tasks/{hidden}")).await.body["status"], "queued");
}

#[tokio::test]
async fn an_owner_with_tasks_is_answered_like_one_that_does_not_exist() {
    let world = World::start().await;
    world.task_of("uwe", "a").await;
    for path in ["/v1/tasks?owner=", "/v1/counters?owner=", "/v1/tasks?owner=una,", "/v1/live?owner="] {
        let [of_uwe, of_nobody] = ["uwe", "nobody"].map(|owner| (owner, format!("{path}{owner}")));
        let of_uwe = world.get("una", &of_uwe.1).await;
        let of_nobody = world.get("una", &of_nobody.1).await;
        of_uwe.assert_problem(404, "not_found");
        assert_eq!(all_of(&of_uwe, "uwe"), all_of(&of_nobody, "nobody"), "{path}");
    }
}

#[tokio::test]
async fn what_a_role_may_never_do_is_refused_before_the_body_is_read() {
    let world = World::start().await;
    for (subject, method, path) in [
        ("aida", Method::POST, "/v1/tasks"),
        ("aida", Method::POST, "/v1/tasks/batch"),
        ("aida", Method::POST, "/v1/tasks/cancel"),
        ("aida", Method::POST, "/v1/bell/seen"),
        ("aida", Method::POST, "/v1/schedules"),
        ("aida", Method::POST, "/v1/leases"),
        ("una", Method::POST, "/v1/leases"),
        ("una", Method::POST, "/v1/leases/heartbeat"),
        ("una", Method::POST, "/v1/leases/cancel-ack"),
        ("una", Method::POST, "/v1/leases/finish"),
        ("una", Method::POST, "/v1/queues/NOT-A-NAME/pause"),
        ("una", Method::POST, "/v1/schedules"),
        ("una", Method::DELETE, "/v1/schedules/not-an-id"),
        ("una", Method::GET, "/v1/schedules/not-an-id"),
        ("una", Method::GET, "/v1/log?unknown=field"),
        ("una", Method::GET, "/v1/log/head?unknown=field"),
        ("una", Method::GET, "/metrics?unknown=field"),
        ("una", Method::GET, "/v1/queues?unknown=field"),
    ] {
        let body = if method == Method::POST { "not JSON" } else { "" };
        let answer = world.send(subject, method.clone(), path, body).await;
        let role = if subject == "aida" { "auditor" } else { "user" };
        assert_eq!(answer.status, 403, "{method} {path}: {}", answer.text);
        assert!(answer.text.contains(&format!("the role `{role}` may not do this")), "{}", answer.text);
    }
}

#[tokio::test]
async fn each_item_of_a_batch_is_judged_by_itself() {
    let world = World::start().await;
    let [own, hidden] = [world.task_of("una", "a").await, world.task_of("uwe", "a").await];
    let items = json!({"items": [
        {"kind": "a"},
        {"kind": "a", "owner": "uwe"},
        {"kind": "a", "owner": "uwe", "idempotency_key": "k"},
        {"kind": "a", "owner": "una", "parent": own},
        {"kind": "a", "parent": hidden},
        {"kind": "a", "owner": "uwe", "unique_key": "u"},
    ]});
    let answer = world.post("una", "/v1/tasks/batch", &items).await;
    let outcome = |item: &Value| item["problem"]["code"].as_str().unwrap_or("created").to_owned();
    let outcomes: Vec<String> = answer.body["items"].as_array().expect("items").iter().map(outcome).collect();
    assert_eq!(outcomes, ["created", "forbidden", "forbidden", "created", "invalid_request", "forbidden"]);
    let of_uwe = world.get("uwe", "/v1/tasks").await;
    assert_eq!((of_uwe.body["total"].as_u64(), of_uwe.body["items"][0]["id"].as_str()), (Some(1), Some(&*hidden)));
    let by_operator = world.post("olaf", "/v1/tasks/batch", &items).await;
    assert!(by_operator.body["items"].as_array().expect("items").iter().all(|item| item["id"].is_string()));
}

#[tokio::test]
async fn a_bulk_cancel_of_a_user_records_whose_tasks_it_is_about() {
    let world = World::start().await;
    let [own, other] = [world.task_of("una", "a").await, world.task_of("uwe", "a").await];
    let answer = world.post("una", "/v1/tasks/cancel", &json!({"filter": {"kind": "a"}})).await;
    assert_eq!((answer.status, &answer.body["matched"]), (202, &json!(1)), "{}", answer.text);
    let bulk = &answer.body["task"];
    assert_eq!((&bulk["owner"], &bulk["input"]["filter"]["owner"]), (&json!("una"), &json!(["una"])), "{bulk}");
    world.server.task_when(bulk["id"].as_str().expect("an id"), is_final).await;
    assert_eq!(world.get("una", &format!("/v1/tasks/{own}")).await.body["status"], "cancelled");
    assert_eq!(world.get("uwe", &format!("/v1/tasks/{other}")).await.body["status"], "queued");
    let forged = json!({"kind": "taskbell.bulk_cancel", "input": {"filter": {}}});
    world.post("una", "/v1/tasks", &forged).await.assert_problem(422, "invalid_request");
}

/// Creates a task with this input, and lets it end with this result and output. Returns its id.
async fn ended_task(world: &World, value: &str) -> String {
    let send = async |path: &str, body: String| {
        let request = world.server.client().post(world.server.url() + path).header("content-type", "application/json");
        let answer = world.server.send(request.body(body)).await;
        assert!(answer.status < 300 && !answer.text.contains("\"problem\""), "{}", answer.text);
        answer
    };
    let new = format!(r#"{{"kind": "b", "title": "a report", "labels": {{"set": "s"}}, "input": {value}}}"#);
    let request = send("/v1/tasks", new).await;
    let id = request.text.split('"').nth(3).expect("the id").to_owned();
    let lease = world.server.post("/v1/leases", &json!({"worker": "w", "kinds": ["b"], "wait_s": 30})).await;
    let lease = lease.text.split('"').find(|text| text.starts_with(&id) && text.len() > id.len());
    let lease = lease.expect("a lease").to_owned();
    let output = format!(r#"{{"tail": "{CANARY}"}}"#);
    let end = format!(r#""lease": "{lease}", "outcome": "succeeded", "result": {value}, "output": {output}"#);
    send("/v1/leases/finish", format!(r#"{{"items": [{{{end}}}]}}"#)).await;
    id
}

/// The hashes of the events in these lines of the log, in order.
fn hashes(log: &str) -> Vec<&str> {
    log.lines().map(|line| line.rsplit("\"hash\":\"").next().expect("a hash")).collect()
}

#[tokio::test]
async fn an_auditor_reads_everything_but_the_values_whatever_these_are() {
    let world = World::start().await;
    let deep = format!("{}\"{CANARY}\"{}", "[".repeat(30), "]".repeat(30));
    let values = [
        format!(r#"{{"text": "{CANARY}"}}"#),
        format!(r#"["{CANARY}", 1e999, -12345678901234567890123456789012345678901234567890]"#),
        format!(r#"{{"$serde_json::private::RawValue": "{CANARY} is not JSON"}}"#),
        format!(r#"{{"$serde_json::private::Number": "{CANARY}"}}"#),
        deep,
    ];
    for value in &values {
        let id = ended_task(&world, value).await;
        let page = world.get("aida", &format!("/v1/tasks/{id}")).await;
        let members = ["input", "result", "output"].map(|member| &page.body[member]);
        assert_eq!((page.status, members), (200, [&Value::Null; 3]), "{}", page.text);
        assert_eq!(page.body["redacted"], json!(["/input", "/result", "/output"]), "{}", page.text);
        let events = world.get("aida", &format!("/v1/tasks/{id}/events")).await;
        let items = events.body["items"].as_array().unwrap_or_else(|| panic!("{value}: {}", events.text));
        let redacted: Vec<_> = items.iter().map(|event| (&event["type"], &event["redacted"])).collect();
        let expected = [
            (json!("Created"), json!(["/data/input"])),
            (json!("Started"), Value::Null),
            (json!("OutputKept"), json!(["/data/tail"])),
            (json!("Completed"), json!(["/data/result"])),
        ];
        assert_eq!(redacted, expected.iter().map(|(name, redacted)| (name, redacted)).collect::<Vec<_>>());
        let created = &items[0]["data"];
        assert_eq!((&created["input"], &created["title"]), (&Value::Null, &json!("a report")));
        assert_eq!(created["labels"], json!({"set": "s"}));
        let cron = format!(r#"{{"cron": "0 4 29 2 *", "task": {{"kind": "b", "input": {value}}}}}"#);
        assert_eq!(world.send("adam", Method::POST, "/v1/schedules", &cron).await.status, 201);
        for text in [page.text, events.text] {
            assert!(!text.contains(CANARY), "{text}");
        }
    }
    let schedules = world.get("aida", "/v1/schedules").await;
    for schedule in schedules.body["items"].as_array().expect("schedules") {
        assert_eq!((&schedule["task"]["input"], &schedule["redacted"]), (&Value::Null, &json!(["/task/input"])));
        let one = world.get("aida", &format!("/v1/schedules/{}", schedule["id"].as_str().expect("an id"))).await;
        assert!(one.status == 200 && !one.text.contains(CANARY), "{}", one.text);
    }
    let [whole, redacted] = [world.get("adam", "/v1/log").await, world.get("aida", "/v1/log").await];
    assert!(!schedules.text.contains(CANARY) && !redacted.text.contains(CANARY));
    assert_eq!(whole.text.matches(CANARY).count(), 4 * values.len());
    assert_eq!(hashes(&redacted.text), hashes(&whole.text));
    let found = world.get("aida", &format!("/v1/tasks?owner=*&q={CANARY}")).await;
    assert_eq!((found.status, &found.body["total"]), (200, &json!(0)), "{}", found.text);
}

#[tokio::test]
async fn an_auditor_that_follows_the_log_or_watches_tasks_reads_no_values() {
    let world = World::start().await;
    let position = world.server.get("/v1/log/head").await.position();
    let mut live = world.live("aida", "owner=*").await;
    live.send(r#"{"type": "subscribe", "filter": {"owner": "*"}}"#.into()).await.expect("an open socket");
    while !next_frame(&mut live).await.contains("\"subscribed\"") {}
    let (path, value) = (format!("/v1/log?follow=true&limit=4&after={position}"), format!("[\"{CANARY}\", 1e999]"));
    let (followed, id) = tokio::join!(world.get("aida", &path), ended_task(&world, &value));
    assert_eq!((followed.status, followed.text.lines().count()), (200, 4), "{}", followed.text);
    assert!(followed.text.contains(&id) && !followed.text.contains(CANARY), "{}", followed.text);
    loop {
        let frame = next_frame(&mut live).await;
        assert!(!frame.contains(CANARY), "{frame}");
        if frame.contains(&id) && frame.contains("succeeded") {
            return;
        }
    }
}

#[tokio::test]
async fn a_worker_takes_only_its_kinds_and_reports_only_about_them() {
    let world = World::start().await;
    let [allowed, other] = [world.task_of("uwe", "a").await, world.task_of("uwe", "b").await];
    for kinds in [json!(["b"]), json!(["a", "b"])] {
        let refused = world.post("walt", "/v1/leases", &json!({"worker": "w1", "kinds": kinds, "wait_s": 0})).await;
        refused.assert_problem(403, "forbidden");
        assert!(refused.body["detail"].as_str().is_some_and(|detail| detail.contains("`b`")), "{}", refused.text);
    }
    let taken = world.post("walt", "/v1/leases", &json!({"worker": "w1", "max": 10, "wait_s": 30})).await;
    let tasks: Vec<_> =
        taken.body["leases"].as_array().expect("leases").iter().map(|lease| &lease["task_id"]).collect();
    assert_eq!(tasks, [&json!(allowed)]);
    world.get("walt", &format!("/v1/tasks/{allowed}")).await.assert_problem(404, "not_found");
    let lease = world.lease("b").await;
    let beat = json!({"worker": "w", "leases": [{"lease": lease, "progress": {"fraction": 0.5}}]});
    let beat = world.post("walt", "/v1/leases/heartbeat", &beat).await;
    assert_eq!(beat.body["directives"], json!([{"lease": lease, "directive": "lost"}]), "{}", beat.text);
    let acknowledged = world.post("walt", "/v1/leases/cancel-ack", &json!({"lease": lease})).await;
    acknowledged.assert_problem(409, "lease_lost");
    let end = json!({"items": [{"lease": lease, "outcome": "succeeded"}]});
    let ended = world.post("walt", "/v1/leases/finish", &end).await;
    assert_eq!(ended.body["items"][0]["problem"]["code"], "lease_lost", "{}", ended.text);
    let task = world.server.task(&other).await;
    assert_eq!((&task["status"], &task["progress"]), (&json!("running"), &Value::Null));
    assert_eq!(world.server.post("/v1/leases/finish", &end).await.body["items"][0]["status"], "succeeded");
}

/// The types, actors and ways in of the events of this task.
async fn actors(world: &World, task: &str) -> Vec<(String, String, String)> {
    let events = world.server.get(&format!("/v1/tasks/{task}/events")).await;
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let actor = |event: &Value| (text(&event["type"]), text(&event["meta"]["actor"]), text(&event["meta"]["via"]));
    events.body["items"].as_array().expect("events").iter().map(actor).collect()
}

#[tokio::test]
async fn the_events_of_a_worker_name_its_subject_if_it_has_a_credential_and_else_its_name() {
    let world = World::start().await;
    let run = async |subject: Option<&str>| {
        let id = world.task_of("uwe", "a").await;
        let send = async |path: &str, body: Value| match subject {
            Some(subject) => world.post(subject, path, &body).await,
            None => world.server.post(path, &body).await,
        };
        let taken = send("/v1/leases", json!({"worker": "w1", "kinds": ["a"], "wait_s": 30})).await;
        let lease = &taken.body["leases"][0]["lease"];
        world.post("uwe", &format!("/v1/tasks/{id}/cancel"), &json!({})).await;
        assert_eq!(send("/v1/leases/cancel-ack", json!({"lease": lease})).await.status, 204);
        let end = json!({"items": [{"lease": lease, "outcome": "cancelled"}]});
        assert_eq!(send("/v1/leases/finish", end).await.body["items"][0]["status"], "cancelled");
        assert_eq!(world.server.task(&id).await["worker"], "w1");
        actors(&world, &id).await
    };
    let expected = |start: (&str, &str), worker: &str| {
        let event = |name: &str, actor: &str, via: &str| (name.to_owned(), actor.to_owned(), via.to_owned());
        vec![
            event("Created", "local", "http"),
            event("Started", start.0, start.1),
            event("CancelRequested", "uwe", "http"),
            event("CancelAcknowledged", worker, "worker"),
            event("Completed", worker, "worker"),
        ]
    };
    assert_eq!(run(Some("walt")).await, expected(("walt", "worker"), "walt"));
    assert_eq!(run(Some("adam")).await, expected(("adam", "worker"), "adam"));
    assert_eq!(run(None).await, expected(("system", "scheduler"), "w1"));
}
