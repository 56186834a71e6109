//! Real responses of all routes, good and bad, match the document.

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Value, json};

use super::super::api::raw_http::raw;
use super::super::support::Server;
use super::contract::Contract;

const NOBODY: &str = "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b";

/// Takes the lease of the only task of this kind.
async fn take(api: &mut Contract, kind: &str) -> String {
    let body = json!({"worker": "w", "kinds": [kind], "wait_s": 30});
    let leases = api.expect(200, "POST", "/v1/leases", "", "", Some(&body)).await;
    leases.body["leases"][0]["lease"].as_str().unwrap_or_else(|| panic!("no lease: {}", leases.text)).to_owned()
}

async fn create(api: &mut Contract, body: &Value) -> String {
    api.expect(201, "POST", "/v1/tasks", "", "", Some(body)).await.id()
}

/// A task at each status and with all its fields.
async fn tasks_of_all_kinds(api: &mut Contract) -> String {
    let all_fields = json!({
        "kind": "all", "title": "t", "input": {"n": 0.5}, "queue": "q", "priority": -3, "max_attempts": 3,
        "timeout_s": 60, "labels": {"team": "sales", "ä": "ö"}, "owner": "anna", "unique_key": "u", "concurrency_key": "c",
    });
    let id = create(api, &all_fields).await;
    api.expect(200, "POST", "/v1/tasks", "", "", Some(&all_fields)).await;
    create(api, &json!({"kind": "later", "run_at": "2999-01-01T00:00:00Z", "parent": id})).await;
    let lease = take(api, "all").await;
    let progress = json!({"lease": lease, "progress": {"fraction": 0.25, "message": "a quarter"}});
    let beat = json!({"worker": "w", "leases": [progress]});
    api.expect(200, "POST", "/v1/leases/heartbeat", "", "", Some(&beat)).await;
    api.expect(200, "GET", "/v1/tasks/{id}", &id, "", None).await;
    api.expect(409, "POST", "/v1/tasks/{id}/escalate", &id, "", Some(&json!({"rung": "interrupt"}))).await;
    api.expect(409, "POST", "/v1/leases/cancel-ack", "", "", Some(&json!({"lease": lease}))).await;
    api.expect(202, "POST", "/v1/tasks/{id}/cancel", &id, "", Some(&json!({"reason": "enough"}))).await;
    let directive = json!({"worker": "w", "leases": [{"lease": lease}], "wait_s": 30});
    let told = api.expect(200, "POST", "/v1/leases/heartbeat", "", "", Some(&directive)).await;
    assert_eq!(told.body["directives"][0]["directive"], "cancel");
    let acknowledgement = json!({"lease": lease, "stopping_after": "s", "expected_end": "2999-01-01T00:00:00Z"});
    api.expect(204, "POST", "/v1/leases/cancel-ack", "", "", Some(&acknowledgement)).await;
    api.expect(202, "POST", "/v1/tasks/{id}/escalate", &id, "", Some(&json!({"rung": "interrupt", "reason": "now"})))
        .await;
    api.expect(409, "POST", "/v1/tasks/{id}/retry", &id, "", None).await;
    let end = json!({"lease": lease, "outcome": "cancelled", "message": "m", "result": [1], "output": {"tail": "x"}});
    let unknown = json!({"lease": format!("{NOBODY}.1.x"), "outcome": "released"});
    let body = json!({"items": [end, unknown, {"lease": 1}]});
    api.expect(200, "POST", "/v1/leases/finish", "", "", Some(&body)).await;
    let page = api.expect(200, "GET", "/v1/tasks/{id}", &id, "?min_position=1", None).await;
    assert_eq!((&page.body["status"], &page.body["cancel"]["verdict"]), (&json!("cancelled"), &json!("cancelled")));
    api.expect(200, "POST", "/v1/tasks/{id}/cancel", &id, "", None).await;
    api.expect(200, "POST", "/v1/tasks/{id}/escalate", &id, "", Some(&json!({"rung": "revoke"}))).await;
    id
}

/// Sends a request with this bearer, and asserts that the response has this status.
async fn with_bearer(api: &mut Contract, method: &str, path: &str, token: &str, status: u16) {
    let response = api.server.send(api.request(method, path, None).bearer_auth(token)).await;
    assert_eq!(response.status, status, "{method} {path}: {}", response.text);
    api.check(method, path, &response);
}

/// Opens and ends a session of another user, and gets a ticket.
async fn sessions_and_tickets(api: &mut Contract) {
    api.expect(200, "GET", "/v1/session", "", "", None).await;
    api.expect(409, "POST", "/v1/session", "", "", None).await;
    let session = api.expect(201, "POST", "/v1/session", "", "", Some(&json!({"subject": "anna"}))).await;
    let token = session.body["token"].as_str().unwrap().to_owned();
    // The last session replaces the one that has opened it.
    for (method, status) in [("GET", 200), ("POST", 201), ("GET", 401)] {
        with_bearer(api, method, "/v1/session", &token, status).await;
    }
    let session = api.expect(201, "POST", "/v1/session", "", "", Some(&json!({"subject": "ben"}))).await;
    with_bearer(api, "DELETE", "/v1/session", session.body["token"].as_str().unwrap(), 204).await;
    api.expect(200, "DELETE", "/v1/session", "", "", Some(&json!({"subject": "anna", "reason": "tried"}))).await;
    api.expect(201, "POST", "/v1/tickets", "", "", None).await;
}

#[tokio::test]
async fn the_responses_about_tasks_match_the_document() {
    let mut api = Contract::of(Server::start()).await;
    let id = tasks_of_all_kinds(&mut api).await;
    let failing = create(&mut api, &json!({"kind": "failing", "max_attempts": 2})).await;
    let lease = take(&mut api, "failing").await;
    let error = json!({"code": "no_paper", "message": "the printer has no paper"});
    let failed = json!({"items": [{"lease": lease, "outcome": "failed", "error": error}]});
    api.expect(200, "POST", "/v1/leases/finish", "", "", Some(&failed)).await;
    api.expect(200, "GET", "/v1/tasks/{id}", &failing, "", None).await;
    api.expect(200, "GET", "/v1/tasks/{id}/events", &failing, "", None).await;
    api.expect(202, "POST", "/v1/tasks/{id}/retry", &id, "", Some(&json!({"reason": "again"}))).await;
    let items = json!({"items": [{"kind": "a"}, {"kind": "A"}, 7, {"kind": "b", "idempotency_key": "k"}]});
    let batch = api.expect(200, "POST", "/v1/tasks/batch", "", "", Some(&items)).await;
    assert_eq!(batch.body["items"].as_array().unwrap().iter().filter(|item| item["id"].is_string()).count(), 2);
    for query in ["", "?status=queued,cancelled&order=asc&limit=1", "?label=team:sales&label=%C3%A4:%C3%B6&q=t"] {
        api.expect(200, "GET", "/v1/tasks", "", query, None).await;
    }
    for query in ["", "?owner=anna"] {
        api.expect(200, "GET", "/v1/counters", "", query, None).await;
    }
    let dry = json!({"filter": {"kind": "b", "label": ["a:b"]}, "dry_run": true});
    api.expect(202, "POST", "/v1/tasks/cancel", "", "", Some(&dry)).await;
    api.expect(202, "POST", "/v1/tasks/cancel", "", "", Some(&json!({"filter": {"kind": ["b"]}}))).await;
    api.expect(200, "GET", "/v1/tasks/{id}/events", &id, "", None).await;
    let log = api.expect(200, "GET", "/v1/log", "", "?limit=1000", None).await;
    assert!(log.text.lines().count() > 10, "{}", log.text);
}

#[tokio::test]
async fn every_operation_sends_a_response_of_the_document() {
    let mut api = Contract::of(Server::start()).await;
    tasks_of_all_kinds(&mut api).await;
    let id = create(&mut api, &json!({"kind": "c"})).await;
    api.expect(202, "POST", "/v1/tasks/{id}/cancel", &id, "", None).await;
    api.expect(202, "POST", "/v1/tasks/{id}/retry", &id, "", None).await;
    api.expect(200, "GET", "/v1/tasks/{id}/events", &id, "", None).await;
    api.expect(200, "POST", "/v1/tasks/batch", "", "", Some(&json!({"items": [{"kind": "d"}]}))).await;
    api.expect(202, "POST", "/v1/tasks/cancel", "", "", Some(&json!({"filter": {"kind": "d"}}))).await;
    api.expect(204, "POST", "/v1/bell/seen", "", "", Some(&json!({"position": 1}))).await;
    api.expect(200, "POST", "/v1/queues/{queue}/pause", "q", "", Some(&json!({"reason": "r"}))).await;
    api.expect(200, "GET", "/v1/queues", "", "", None).await;
    api.expect(200, "POST", "/v1/queues/{queue}/resume", "q", "", None).await;
    let new = json!({"cron": "0 0 1 1 *", "task": {"kind": "e", "labels": {"a": "b"}}});
    let schedule = api.expect(201, "POST", "/v1/schedules", "", "", Some(&new)).await.id();
    api.expect(200, "GET", "/v1/schedules/{id}", &schedule, "", None).await;
    api.expect(200, "GET", "/v1/schedules", "", "", None).await;
    api.expect(204, "DELETE", "/v1/schedules/{id}", &schedule, "", None).await;
    sessions_and_tickets(&mut api).await;
    let token =
        api.expect(201, "POST", "/v1/tokens", "", "", Some(&json!({"subject": "anna", "role": "user"}))).await.id();
    api.expect(200, "GET", "/v1/tokens", "", "", None).await;
    api.expect(204, "DELETE", "/v1/tokens/{id}", &token, "", None).await;
    api.expect(200, "GET", "/v1/log", "", "?stream=queue-q&type=Paused&after=0&follow=false", None).await;
    for path in [
        "/v1/tasks",
        "/v1/counters",
        "/v1/log/head",
        "/v1/views/digest",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/",
    ] {
        api.expect(200, "GET", path, "", "", None).await;
    }
    api.expect(200, "GET", "/tasks/{id}", &id, "", None).await;
    for file in ["app.js", "style.css", "icon.svg"] {
        api.expect(200, "GET", "/ui/{file}", file, "", None).await;
    }
    assert_eq!(api.without_success(), ["GET /v1/live"]);
}

#[tokio::test]
async fn the_refusals_of_every_operation_match_the_document() {
    let mut api = Contract::of(Server::start()).await;
    let operations: Vec<(String, String, bool)> = super::operations(&api.document)
        .map(|(method, path, operation)| (method, path.to_owned(), operation.get("requestBody").is_some()))
        .collect();
    for (method, path, has_body) in operations {
        let target = path.replace("{id}", NOBODY).replace("{queue}", "q").replace("{file}", "none");
        let no_body = api.send(&method, &path, NOBODY, "?unknown=1", None).await;
        assert!(no_body.status < 500, "{}", no_body.text);
        api.send(&method, &path, "x y", "", None).await;
        let other_host = api.request(&method, &target, None).header("host", "example.com");
        let response = api.server.send(other_host).await;
        api.check(&method, &path, &response);
        let expectation = api.request(&method, &target, None).header("expect", "a-cake");
        let response = api.server.send(expectation).await;
        response.assert_problem(417, "expectation_failed");
        api.check(&method, &path, &response);
        let long = api.send(&method, &path, NOBODY, &format!("?{}", "x".repeat(9000)), None).await;
        assert_eq!(long.status, 414, "{}", long.text);
        if has_body {
            for body in ["{", "[]", "{\"unknown\":1}", "{\"worker\":1,\"kind\":1,\"reason\":1,\"items\":[]}"] {
                let request = api.request(&method, &target, None).header(CONTENT_TYPE, "application/json");
                let response = api.server.send(request.body(body)).await;
                api.check(&method, &path, &response);
                assert!((400..500).contains(&response.status), "{method} {path} {body}: {}", response.text);
            }
            let headers = "Content-Type: application/json\r\nContent-Length: 99999999\r\n";
            let response = raw(&api.server, &format!("{method} {target}"), headers, b"");
            // What the path names is looked up before the body is received, if the caller's access depends on it.
            assert!(matches!(response.status, 404 | 413), "{}", response.text);
            api.check(&method, &path, &response);
            let encoded = api.request(&method, &target, Some(&json!({}))).header(CONTENT_ENCODING, "gzip");
            let response = api.server.send(encoded).await;
            assert!(matches!(response.status, 404 | 415), "{}", response.text);
            api.check(&method, &path, &response);
        }
    }
}
