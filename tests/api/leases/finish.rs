//! How workers report the ends of attempts.

use super::*;
use crate::api::{event_types, pointers_in};

#[tokio::test]
async fn each_way_to_end_leads_where_it_should() {
    let server = Server::start();
    let error = json!({"code": "disk_full", "message": "no space left"});
    for (end, status, last) in [
        (json!({"outcome": "succeeded", "message": "done", "result": {"n": 1}}), "succeeded", "Completed"),
        (json!({"outcome": "failed", "error": error}), "retrying", "AttemptFailed"),
        (json!({"outcome": "failed", "error": error, "retryable": true}), "retrying", "AttemptFailed"),
        (json!({"outcome": "failed", "error": error, "retryable": false}), "failed", "Completed"),
    ] {
        let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 3})).await;
        let mut item = end.clone();
        item["lease"] = json!(lease);
        assert_eq!(finish(&server, item).await, json!({"status": status}), "{end}");
        let last_event = events(&server, &id).await.pop().unwrap();
        assert_eq!((&last_event["type"], &last_event["meta"]["actor"]), (&json!(last), &json!("w")));
        let task = server.task(&id).await;
        assert_eq!(task["outcome"]["error"], if status == "failed" { error.clone() } else { Value::Null }, "{task}");
        if status == "succeeded" {
            assert_eq!((&task["outcome"]["message"], &task["result"]), (&json!("done"), &json!({"n": 1})));
        }
    }
}

#[tokio::test]
async fn a_lease_that_is_handed_back_costs_no_attempt() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 1})).await;
    for _ in 0..2 {
        let answer = finish(&server, json!({"lease": lease, "outcome": "released"})).await;
        assert_eq!(answer, json!({"status": "queued"}));
    }
    let again = take_without_waiting(&server, 1).await;
    assert_eq!((task_ids(&again), &again[0]["attempt"]), (vec![&*id], &json!(2)));
    assert_eq!(finish(&server, json!({"lease": lease, "outcome": "released"})).await, json!({"status": "queued"}));
    assert_eq!(succeed(&server, &token(&again[0])).await, json!({"status": "succeeded"}));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Released", "Started", "Completed"]);
}

#[tokio::test]
async fn a_finish_that_is_sent_again_gets_the_first_answer() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 3})).await;
    let error = json!({"code": "c", "message": "m"});
    let ends = [
        json!({"lease": lease, "outcome": "succeeded", "result": 1}),
        json!({"lease": lease, "outcome": "succeeded", "result": 1}),
        json!({"lease": lease, "outcome": "failed", "error": error}),
        json!({"lease": lease, "outcome": "released"}),
        json!({"lease": lease, "outcome": "cancelled"}),
        json!({"lease": lease, "outcome": "succeeded", "output": {"tail": "late"}}),
        // The code is reserved for the system, but the attempt has already ended.
        json!({"lease": lease, "outcome": "failed", "error": {"code": "timed_out", "message": "m"}}),
    ];
    for end in &ends {
        assert_eq!(finish(&server, end.clone()).await, json!({"status": "succeeded"}), "{end}");
    }
    let answer = server.post("/v1/leases/finish", &json!({"items": ends})).await;
    assert!(answer.body["items"].as_array().unwrap().iter().all(|item| item["status"] == "succeeded"));
    assert_refused(&succeed(&server, &with_other_secret(&lease)).await, "lease_lost");
    assert_eq!(server.task(&id).await["result"], 1);
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
    // The response is the same after the task has started another attempt.
    assert_eq!(server.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await.status, 202);
    take_without_waiting(&server, 1).await;
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
    assert_eq!(server.task(&id).await["status"], "running", "the second run goes on");
}

#[tokio::test]
async fn the_same_lease_twice_in_one_batch_ends_once_by_the_first() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let error = json!({"code": "c", "message": "m"});
    let items =
        json!([{"lease": lease, "outcome": "succeeded"}, {"lease": lease, "outcome": "failed", "error": error}]);
    let answer = server.post("/v1/leases/finish", &json!({"items": items})).await;
    assert_eq!(answer.body["items"], json!([{"status": "succeeded"}, {"status": "succeeded"}]));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
}

/// The items are read and executed in chunks of 250.
#[tokio::test]
async fn the_same_lease_in_two_chunks_of_a_batch_ends_by_the_first() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let end = |lease: &str, outcome: &str| json!({"lease": lease, "outcome": outcome, "message": "m".repeat(300)});
    let mut items = vec![end("of nothing", "succeeded"); 600];
    items[10] = end(&lease, "succeeded");
    items[590] = end(&lease, "cancelled");
    let answer = server.post("/v1/leases/finish", &json!({"items": items})).await;
    let items = answer.body["items"].as_array().unwrap();
    let ended: Vec<usize> = (0..600).filter(|index| items[*index]["status"] == "succeeded").collect();
    assert_eq!((items.len(), ended), (600, vec![10, 590]), "{}", answer.text);
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
}

#[tokio::test]
async fn each_item_of_a_batch_is_checked_by_itself_and_has_its_result_in_the_same_position() {
    let server = Server::start();
    let mut leases = Vec::new();
    for _ in 0..4 {
        leases.push(submit_and_take(&server, "w", json!({})).await);
    }
    let of = |n: usize| leases[n].1.clone();
    let before = server.get("/v1/log/head").await.body["position"].as_u64().unwrap();
    let items = json!([
        {"lease": of(0), "outcome": "succeeded"},
        {"lease": "x", "outcome": "succeeded"},
        {"lease": of(1), "outcome": "succeeded", "unknown": 1},
        {"lease": of(1), "outcome": "failed"},
        7,
        {"lease": with_other_secret(&of(1)), "outcome": "succeeded"},
        {"lease": of(2), "outcome": "cancelled"},
        {"lease": of(2), "outcome": "failed", "error": {"code": "lease_expired", "message": "m"}},
        {"lease": of(2), "outcome": "succeeded", "result": "x".repeat(300_000)},
        {"lease": of(3), "outcome": "failed", "error": {"code": "c", "message": "m"}},
    ]);
    let answer = server.post("/v1/leases/finish", &json!({"items": items})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let codes: Vec<&str> = answer.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["status"].as_str().or(item["problem"]["code"].as_str()).unwrap())
        .collect();
    let bad = "invalid_request";
    let wanted = ["succeeded", bad, bad, bad, bad, "lease_lost", "not_cancelling", bad, "too_large", "failed"];
    assert_eq!(codes, wanted);
    assert_eq!(pointers_in(&answer.body["items"][1]["problem"]), ["/lease"]);
    assert_eq!(pointers_in(&answer.body["items"][3]["problem"]), ["/error"]);
    assert_eq!(pointers_in(&answer.body["items"][7]["problem"]), ["/error/code"]);
    assert_eq!(pointers_in(&answer.body["items"][8]["problem"]), ["/result"]);
    assert_eq!(answer.body["position"], before + 2, "two ends, and nothing else");
    for n in [1, 2] {
        assert_eq!(poll_directive(&server, "w", &of(n)).await, None, "a refusal ends no lease");
        assert_eq!(succeed(&server, &of(n)).await, json!({"status": "succeeded"}));
    }
}

#[tokio::test]
async fn what_an_attempt_wrote_is_kept_with_its_end_up_to_64_kib() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let tail = |bytes: usize| json!({"tail": "é".repeat(bytes / 2), "dropped_bytes": 9});
    let end = |output: Value| finish(&server, json!({"lease": lease, "outcome": "succeeded", "output": output}));
    for wrong in [tail(65_538), json!({}), json!({"tail": 1}), json!({"tail": "x", "dropped_bytes": -1}), json!("x")] {
        assert_refused(&end(wrong).await, "invalid_request");
    }
    assert_eq!(end(tail(65_536)).await, json!({"status": "succeeded"}));
    let events = events(&server, &id).await;
    assert_eq!((&events[2]["type"], &events[2]["data"]["attempt"]), (&json!("OutputKept"), &json!(1)));
    assert_eq!(events[2]["data"]["tail"].as_str().unwrap().len(), 65_536);
    assert_eq!((&events[2]["data"]["dropped_bytes"], &events[3]["type"]), (&json!(9), &json!("Completed")));
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    finish(&server, json!({"lease": lease, "outcome": "succeeded", "output": {"tail": ""}})).await;
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"], "nothing was written");
}

#[tokio::test]
async fn after_a_request_to_cancel_nothing_is_tried_again() {
    let server = Server::start();
    let error = json!({"code": "c", "message": "m"});
    for (end, status, verdict) in [
        (json!({"outcome": "succeeded"}), "succeeded", "finished_first"),
        (json!({"outcome": "failed", "error": error}), "failed", "failed_first"),
        (json!({"outcome": "cancelled", "message": "half"}), "cancelled", "cancelled"),
        (json!({"outcome": "released"}), "cancelled", "cancelled"),
    ] {
        let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 9})).await;
        cancel(&server, &id).await;
        let mut item = end.clone();
        item["lease"] = json!(lease);
        for _ in 0..2 {
            assert_eq!(finish(&server, item.clone()).await, json!({"status": status}), "{end}");
        }
        assert_eq!(server.task(&id).await["cancel"]["verdict"], verdict, "{end}");
        assert_eq!(event_types(&server, &id).await.len(), 4);
    }
}

#[tokio::test]
async fn a_failure_is_retried_after_its_pause_by_any_worker() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w1", json!({"max_attempts": 2})).await;
    let failed = |lease: &str| json!({"lease": lease, "outcome": "failed", "error": {"code": "c", "message": "m"}});
    assert_eq!(finish(&server, failed(&lease)).await, json!({"status": "retrying"}));
    assert_eq!(server.task(&id).await["waiting_for"], "retry_at");
    let again = take(&server, json!({"worker": "w2", "kinds": ["a"]})).await;
    assert_eq!((task_ids(&again), &again[0]["attempt"]), (vec![&*id], &json!(2)));
    assert_eq!(finish(&server, failed(&token(&again[0]))).await, json!({"status": "failed"}), "the last attempt");
    let all = event_types(&server, &id).await;
    assert_eq!(all, ["Created", "Started", "AttemptFailed", "Queued", "Started", "Completed"]);
    assert_eq!(finish(&server, failed(&lease)).await, json!({"status": "retrying"}), "the first answer");
}

#[tokio::test]
async fn a_page_that_shows_the_end_shows_the_result_that_came_with_it() {
    let server = Server::start();
    for n in 0..300 {
        let (id, lease) = submit_and_take(&server, "w", json!({})).await;
        let end = finish(&server, json!({"lease": lease, "outcome": "succeeded", "result": n}));
        let look = async {
            loop {
                let task = server.task(&id).await;
                if task["status"] == "succeeded" {
                    return task;
                }
            }
        };
        let (_, first, second) = tokio::join!(end, look, async { server.task(&id).await });
        assert_eq!(first["result"], n);
        assert_eq!(second["result"].is_null(), second["status"] != "succeeded", "{second}");
    }
}
