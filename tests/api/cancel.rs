//! `POST /v1/tasks/{id}/cancel` and `POST /v1/tasks/{id}/retry`.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::super::support::{Server, is_final};
use super::{assert_all_fields, event_types, is_time, pointers, raw_http, slow_task};

/// The server's bound for [`slow_task`], in bytes per second.
const SPEED: Option<u64> = Some(150_000);

#[tokio::test]
async fn a_cancel_is_a_request_until_the_code_stops_and_a_second_request_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), SPEED);
    let id = slow_task(&server, root.path()).await;
    let path = format!("/v1/tasks/{id}/cancel");
    let first = server.post(&path, &json!({"reason": "changed my mind"})).await;
    assert_eq!((first.status, &first.body["status"]), (202, &json!("cancelling")), "{}", first.text);
    assert_all_fields(&first.body, true);
    let cancel = &first.body["cancel"];
    assert_eq!((&cancel["reason"], &cancel["requested_by"]), (&json!("changed my mind"), &json!("local")));
    assert!(is_time(&cancel["requested_at"]) && cancel["verdict"].is_null(), "{cancel}");
    let again = server.post(&path, &json!({"reason": "another one"})).await;
    assert_eq!(again.body["cancel"]["requested_at"], cancel["requested_at"]);
    assert_eq!((again.status, &again.body["cancel"]["reason"]), (202, &json!("changed my mind")), "{}", again.text);
    server.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await.assert_problem(409, "not_final");
    let end = server.task_at_end(&id).await;
    assert_all_fields(&end, true);
    assert!(["cancelled", "succeeded"].contains(&end["status"].as_str().unwrap()), "{end}");
    assert!(is_time(&end["started_at"]) && is_time(&end["finished_at"]) && end["duration_ms"].is_u64(), "{end}");
    let late = server.post(&path, &json!({})).await;
    assert_eq!((late.status, &late.body["status"], &late.body["cancel"]), (200, &end["status"], &end["cancel"]));
    assert!(["cancelled", "finished_first"].contains(&end["cancel"]["verdict"].as_str().unwrap()), "{end}");
    let asked = event_types(&server, &id).await.into_iter().filter(|kind| kind == "CancelRequested").count();
    assert_eq!(asked, 1);
}

#[tokio::test]
async fn two_hundred_cancels_at_once_are_one_request() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), SPEED);
    let running = slow_task(&server, root.path()).await;
    let waiting = server.submit(&json!({"kind": "no.worker.offers.it"})).await;
    for id in [running, waiting] {
        let path = format!("/v1/tasks/{id}/cancel");
        let answers =
            join_all((0..200).map(|_| server.client().post(server.url() + &path)).map(|request| server.send(request)))
                .await;
        for answer in &answers {
            assert!(answer.status == 202 || answer.status == 200 && is_final(&answer.body), "{}", answer.text);
        }
        assert!(answers.iter().any(|answer| answer.status == 202));
        server.task_at_end(&id).await;
        let asked = event_types(&server, &id).await.into_iter().filter(|kind| kind == "CancelRequested").count();
        assert_eq!(asked, 1);
    }
}

#[tokio::test]
async fn a_task_that_does_not_run_is_cancelled_at_once_with_or_without_a_body() {
    let server = Server::start();
    for body in [None, Some(json!({})), Some(json!({"reason": null})), Some(json!({"reason": "no longer needed"}))] {
        let id = server.submit(&json!({"kind": "a", "run_at": "2999-01-01T00:00:00Z"})).await;
        let request = server.client().post(format!("{}/v1/tasks/{id}/cancel", server.url()));
        let request = if let Some(body) = &body { request.json(body) } else { request };
        let answer = server.send(request).await;
        assert_eq!((answer.status, &answer.body["status"]), (202, &json!("cancelled")), "{}", answer.text);
        assert_eq!(answer.body["cancel"]["verdict"], "cancelled");
        assert_eq!(answer.body["cancel"]["reason"], body.map_or(Value::Null, |body| body["reason"].clone()));
        assert_eq!(answer.position(), answer.body["position"].as_u64().unwrap());
        assert_eq!(server.task(&id).await, answer.body);
        assert_eq!(event_types(&server, &id).await, ["Created", "CancelRequested", "Completed"]);
        let late = server.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "late"})).await;
        assert_eq!((late.status, &late.body), (200, &answer.body));
    }
}

#[tokio::test]
async fn a_retry_runs_a_final_task_again_in_the_same_stream_without_its_former_outcome() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    let retry = format!("/v1/tasks/{id}/retry");
    server.post(&retry, &json!({})).await.assert_problem(409, "not_final");
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let again = raw_http::raw(&server, &format!("POST {retry}"), "Content-Length: 0\r\n", b"");
    assert_eq!((again.status, &again.body["status"]), (202, &json!("queued")), "{}", again.text);
    assert_all_fields(&again.body, true);
    for name in ["cancel", "outcome", "progress", "started_at", "finished_at", "duration_ms", "result"] {
        assert!(again.body[name].is_null(), "{name}: {}", again.body[name]);
    }
    server.post(&retry, &json!({})).await.assert_problem(409, "not_final");
    assert_eq!(event_types(&server, &id).await, ["Created", "CancelRequested", "Completed", "Retried"]);
    let recorded = server.get(&format!("/v1/tasks/{id}/events")).await;
    for (revision, event) in recorded.body["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!((&event["revision"], &event["stream"]), (&json!(revision), &json!(format!("task-{id}"))));
        assert!(is_time(&event["time"]) && event["meta"]["actor"] == "local" && event["hash"].is_string(), "{event}");
    }
}

#[tokio::test]
async fn an_invalid_reason_and_an_unknown_task_are_refused() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for verb in ["cancel", "retry"] {
        let path = format!("/v1/tasks/{id}/{verb}");
        for (body, pointer) in [
            (json!({"reason": 5}), "/reason"),
            (json!({"reason": "x".repeat(1025)}), "/reason"),
            (json!({"why": "x"}), "/why"),
            (json!(["x"]), ""),
            (json!("x"), ""),
            (Value::Null, ""),
        ] {
            let answer = server.post(&path, &body).await;
            assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
        }
        raw_http::post(&server, &path, b"{\"reason\": ").assert_problem(400, "malformed_json");
        let none = format!("/v1/tasks/{}/{verb}", uuid::Uuid::nil());
        server.post(&none, &json!({})).await.assert_problem(404, "not_found");
    }
    assert_eq!(event_types(&server, &id).await, ["Created"]);
}
