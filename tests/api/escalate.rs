//! `POST /v1/tasks/{id}/escalate`: an operator moves a cancel to a higher rung.

use serde_json::{Value, json};

use super::super::support::Server;
use super::{assert_all_fields, event_types, is_time, pointers, raw_http};

fn path(id: &str) -> String {
    format!("/v1/tasks/{id}/escalate")
}

/// Creates a task and takes its lease as a worker that ignores directives. (The worker inside the process would stop
/// soon after an interrupt.)
async fn start_running_task(server: &Server) -> String {
    let id = server.submit(&json!({"kind": "deaf"})).await;
    let taken = server.post("/v1/leases", &json!({"worker": "w", "kinds": ["deaf"]})).await;
    assert_eq!(taken.body["leases"][0]["task_id"], *id, "{}", taken.text);
    id
}

#[tokio::test]
async fn each_rung_is_one_event_and_the_last_ends_the_task_without_its_worker() {
    let server = Server::start();
    let id = start_running_task(&server).await;
    for rung in ["interrupt", "revoke"] {
        let early = server.post(&path(&id), &json!({"rung": rung})).await;
        early.assert_problem(409, "not_cancelling");
    }
    assert_eq!(event_types(&server, &id).await, ["Created", "Started"]);
    assert_eq!(server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await.status, 202);
    let first = server.post(&path(&id), &json!({"rung": "interrupt", "reason": "the disk is needed"})).await;
    assert_eq!((first.status, &first.body["status"]), (202, &json!("cancelling")), "{}", first.text);
    assert_eq!(first.body["cancel"]["rung"], "interrupt");
    assert_all_fields(&first.body, true);
    for _ in 0..2 {
        let again = server.post(&path(&id), &json!({"rung": "interrupt", "reason": "another"})).await;
        assert_eq!((again.status, &again.body["cancel"]["rung"]), (202, &json!("interrupt")), "{}", again.text);
    }
    let last = server.post(&path(&id), &json!({"rung": "revoke", "reason": null})).await;
    assert_eq!((last.status, &last.body["status"]), (202, &json!("cancelled")), "{}", last.text);
    assert_eq!((&last.body["cancel"]["rung"], &last.body["cancel"]["verdict"]), (&json!("revoke"), &json!("forced")));
    assert!(is_time(&last.body["finished_at"]), "{}", last.text);
    for rung in ["interrupt", "revoke"] {
        let late = server.post(&path(&id), &json!({"rung": rung})).await;
        assert_eq!((late.status, &late.body), (200, &last.body), "{}", late.text);
    }
    let events = server.get(&format!("/v1/tasks/{id}/events")).await.body["items"].clone();
    let climbed: Vec<&Value> =
        events.as_array().unwrap().iter().filter(|event| event["type"] == "CancelEscalated").collect();
    assert_eq!(climbed.len(), 2);
    assert_eq!(climbed[0]["data"], json!({"rung": "interrupt", "reason": "the disk is needed"}));
    assert_eq!(climbed[1]["data"], json!({"rung": "revoke", "reason": null}));
    assert_eq!((&climbed[0]["meta"]["actor"], &climbed[0]["meta"]["via"]), (&json!("local"), &json!("http")));
}

#[tokio::test]
async fn a_rung_may_be_skipped_and_a_task_that_is_not_cancelling_is_refused() {
    let server = Server::start();
    let id = start_running_task(&server).await;
    let waiting = server.submit(&json!({"kind": "a"})).await;
    server.post(&path(&waiting), &json!({"rung": "revoke"})).await.assert_problem(409, "not_cancelling");
    assert_eq!(event_types(&server, &waiting).await, ["Created"]);
    server.post(&format!("/v1/tasks/{waiting}/cancel"), &json!({})).await;
    let ended = server.post(&path(&waiting), &json!({"rung": "revoke"})).await;
    assert_eq!((ended.status, &ended.body["cancel"]["verdict"]), (200, &json!("cancelled")), "{}", ended.text);
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let revoked = server.post(&path(&id), &json!({"rung": "revoke"})).await;
    assert_eq!((revoked.status, &revoked.body["cancel"]["verdict"]), (202, &json!("forced")), "{}", revoked.text);
    let climbed = event_types(&server, &id).await.into_iter().filter(|kind| kind == "CancelEscalated").count();
    assert_eq!(climbed, 1);
}

#[tokio::test]
async fn invalid_requests_are_refused_and_change_nothing() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"rung": null}), "/rung"),
        (json!({"rung": "ask"}), "/rung"),
        (json!({"rung": "Revoke"}), "/rung"),
        (json!({"rung": 2}), "/rung"),
        (json!({"rung": ["revoke"]}), "/rung"),
        (json!({"rung": "revoke", "reason": 5}), "/reason"),
        (json!({"rung": "revoke", "reason": "x".repeat(1025)}), "/reason"),
        (json!({"rung": "revoke", "attempt": 1}), "/attempt"),
        (json!("revoke"), ""),
        (json!([]), ""),
        (Value::Null, ""),
    ] {
        let answer = server.post(&path(&id), &body).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
    }
    let good = json!({"rung": "revoke"});
    let twice = raw_http::post(&server, &path(&id), br#"{"rung":"revoke","rung":"interrupt"}"#);
    assert_eq!(pointers(twice.assert_problem(422, "invalid_request")), ["/rung"]);
    let query = server.post(&format!("{}?rung=revoke", path(&id)), &good).await;
    assert_eq!(pointers(query.assert_problem(422, "invalid_request")), ["/query/rung"]);
    raw_http::post(&server, &path(&id), b"{\"rung\": ").assert_problem(400, "malformed_json");
    raw_http::post(&server, &path(&id), b"").assert_problem(400, "malformed_json");
    server
        .send(server.client().post(server.url() + &path(&id)).body("rung"))
        .await
        .assert_problem(415, "unsupported_media_type");
    server.post(&path("x"), &good).await.assert_problem(404, "not_found");
    server.post(&path(&uuid::Uuid::nil().to_string()), &good).await.assert_problem(404, "not_found");
    server.get(&path(&id)).await.assert_problem(405, "method_not_allowed");
    assert_eq!(event_types(&server, &id).await, ["Created"]);
}
