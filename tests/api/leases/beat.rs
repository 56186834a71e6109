//! Heartbeats, and the directives in the responses to them.

use super::*;
use crate::api::{event_types, is_time};

#[tokio::test]
async fn a_cancel_ends_the_wait_of_a_heartbeat_and_is_repeated_until_it_is_seen() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    // Without the cancel, the server would respond after ten seconds, without a directive.
    let (answer, ()) = tokio::join!(send_heartbeat(&server, "w", &lease, None), async {
        server.get("/healthz").await;
        cancel(&server, &id).await;
    });
    assert_eq!(answer.body["directives"], json!([{"lease": lease, "directive": "cancel"}]));
    assert!(is_time(&answer.body["deadline"]), "{}", answer.text);
    assert!((1..=30_000).contains(&answer.body["left_ms"].as_u64().unwrap_or_default()), "{}", answer.text);
    for _ in 0..3 {
        assert_eq!(
            directive(&send_heartbeat(&server, "w", &lease, None).await).as_deref(),
            Some("cancel"),
            "not seen yet"
        );
    }
    assert_eq!(
        directive(&send_heartbeat(&server, "w", &lease, Some("drain")).await).as_deref(),
        Some("cancel"),
        "a milder one"
    );
    let body = json!({"worker": "w", "leases": [{"lease": lease, "seen": "cancel"}], "wait_s": 0.1});
    let answer = server.post("/v1/leases/heartbeat", &body).await;
    assert_eq!(answer.body["directives"], json!([]), "seen is seen");
}

#[tokio::test]
async fn a_directive_names_its_lease_among_many() {
    let server = Server::start();
    for _ in 0..5 {
        server.submit(&json!({"kind": "a"})).await;
    }
    let leases = take_without_waiting(&server, 5).await;
    let beats: Vec<Value> = leases.iter().map(|lease| json!({"lease": token(lease)})).collect();
    let body = json!({"worker": "w", "leases": beats, "wait_s": 30});
    let (answer, ()) = tokio::join!(server.post("/v1/leases/heartbeat", &body), async {
        server.get("/healthz").await;
        cancel(&server, task_ids(&leases)[3]).await;
    });
    assert_eq!(answer.body["directives"], json!([{"lease": leases[3]["lease"], "directive": "cancel"}]));
}

#[tokio::test]
async fn heartbeats_keep_a_lease_alive_and_wait_no_longer_than_a_third_of_it() {
    let server = Server::with(["--kind", "a:lease_s=0.9"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    for _ in 0..6 {
        let answer = send_heartbeat(&server, "w", &lease, None).await;
        let left_ms = answer.body["left_ms"].as_u64().expect("the time that is left");
        assert!((1..=600).contains(&left_ms), "a third of the lease has passed when the wait ends: {}", answer.text);
        assert_eq!(answer.body["directives"], json!([]), "had it waited for thirty seconds, the lease would be lost");
        assert!(is_time(&answer.body["deadline"]), "{}", answer.text);
    }
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
    assert_eq!(event_types(&server, &id).await, ["Created", "Started", "Completed"]);
}

#[tokio::test]
async fn a_heartbeat_of_nothing_has_no_deadline_and_is_answered_at_once() {
    let server = Server::start();
    let answer = server.post("/v1/leases/heartbeat", &json!({"worker": "w", "leases": [], "wait_s": 30})).await;
    assert_eq!(
        (answer.status, &answer.body),
        (200, &json!({"directives": [], "deadline": null, "left_ms": null})),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn progress_is_shown_while_it_runs_and_kept_with_the_end() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    for progress in
        [json!({"fraction": 0.25, "message": "one of four"}), json!({"fraction": 1}), json!({"message": "m"})]
    {
        let beat = json!({"lease": lease, "progress": progress});
        server.post("/v1/leases/heartbeat", &json!({"worker": "w", "leases": [beat]})).await;
        let shows = |task: &Value| {
            let shown = &task["progress"];
            shown["fraction"].as_f64() == progress["fraction"].as_f64() && shown["message"] == progress["message"]
        };
        server.task_when(&id, shows).await;
    }
    assert_eq!(server.get("/v1/log/head").await.body["position"], 2, "progress is no event");
    succeed(&server, &lease).await;
    assert_eq!(events(&server, &id).await[2]["data"]["progress"]["message"], "m");
    assert_eq!(server.task(&id).await["progress"]["message"], "m");
}

#[tokio::test]
async fn the_last_progress_before_the_end_is_recorded_with_it() {
    let server = Server::start();
    for n in 0..40 {
        let (id, lease) = submit_and_take(&server, "w", json!({})).await;
        let beat = json!({"lease": lease, "progress": {"message": n.to_string()}});
        server.post("/v1/leases/heartbeat", &json!({"worker": "w", "leases": [beat]})).await;
        succeed(&server, &lease).await;
        assert_eq!(server.task(&id).await["progress"]["message"], n.to_string());
    }
}

#[tokio::test]
async fn the_lease_of_another_worker_is_lost_and_its_holder_is_not_disturbed() {
    let server = Server::with(["--kind", "a:lease_s=2"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let before = server.get("/v1/log/head").await.body;
    let other = lease.replacen(&id, &uuid::Uuid::now_v7().to_string(), 1);
    let next = lease.replacen(".1.", ".2.", 1);
    for (worker, lease) in [("thief", &lease), ("w", &with_other_secret(&lease)), ("w", &other), ("w", &next)] {
        let beat = json!({"lease": lease, "progress": {"fraction": 0.9}, "seen": "cancel"});
        let answer =
            server.post("/v1/leases/heartbeat", &json!({"worker": worker, "leases": [beat], "wait_s": 30})).await;
        assert_eq!(answer.body["directives"], json!([{"lease": lease, "directive": "lost"}]), "{worker}");
        assert_eq!(answer.body["deadline"], Value::Null);
    }
    for lease in [&with_other_secret(&lease), &other, &next] {
        assert_refused(&succeed(&server, lease).await, "lease_lost");
        let answer = server.post("/v1/leases/cancel-ack", &json!({"lease": lease})).await;
        answer.assert_problem(409, "lease_lost");
    }
    assert_eq!(server.get("/v1/log/head").await.body, before);
    assert_eq!(server.task(&id).await["progress"], Value::Null, "the progress of another worker is ignored");
    assert_eq!(poll_directive(&server, "w", &lease).await, None);
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
}

#[tokio::test]
async fn the_heartbeats_of_another_worker_do_not_renew_a_lease() {
    let server = Server::with(["--kind", "a:lease_s=0.4"]);
    let (id, lease) = submit_and_take(&server, "w", json!({"max_attempts": 1})).await;
    let ended = server.task_at_end(&id);
    let mut ended = std::pin::pin!(ended);
    let task = loop {
        tokio::select! {
            task = &mut ended => break task,
            directive = poll_directive(&server, "thief", &lease) => assert_eq!(directive.as_deref(), Some("lost")),
        }
    };
    assert_eq!(task["outcome"]["error"]["code"], "lease_expired", "{task}");
}

#[tokio::test]
async fn a_lost_lease_whose_loss_was_seen_does_not_end_the_wait_for_the_others() {
    let server = Server::with(["--kind", "a:lease_s=3"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let (_, gone) = submit_and_take(&server, "w", json!({})).await;
    succeed(&server, &gone).await;
    let both = json!([{"lease": gone, "seen": "lost"}, {"lease": lease}]);
    let body = json!({"worker": "w", "leases": both, "wait_s": 30});
    let (answer, ()) = tokio::join!(server.post("/v1/leases/heartbeat", &body), async {
        server.get("/healthz").await;
        cancel(&server, &id).await;
    });
    assert_eq!(answer.body["directives"], json!([{"lease": lease, "directive": "cancel"}]));
}

#[tokio::test]
async fn the_step_that_must_end_first_shows_on_the_task() {
    let server = Server::start();
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let acknowledge = async |more: Value| {
        let mut body = json!({"lease": lease});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/v1/leases/cancel-ack", &body).await
    };
    acknowledge(json!({})).await.assert_problem(409, "not_cancelling");
    cancel(&server, &id).await;
    let step = json!({"stopping_after": "the last upload", "expected_end": "2999-01-01T00:00:00Z"});
    for _ in 0..2 {
        let answer = acknowledge(step.clone()).await;
        assert_eq!((answer.status, &*answer.text), (204, ""));
    }
    let shown = server.task(&id).await["cancel"].clone();
    assert_eq!(shown["stopping_after"], "the last upload", "{shown}");
    assert_eq!(shown["expected_end"], "2999-01-01T00:00:00.000000Z", "{shown}");
    assert!(is_time(&shown["acknowledged_at"]), "{shown}");
    let all = event_types(&server, &id).await;
    assert_eq!(
        all,
        ["Created", "Started", "CancelRequested", "CancelAcknowledged"],
        "a repeated acknowledgement is recorded once"
    );
    let event = events(&server, &id).await[3].clone();
    assert_eq!((&event["meta"]["actor"], &event["meta"]["via"]), (&json!("w"), &json!("worker")), "{event}");
    finish(&server, json!({"lease": lease, "outcome": "cancelled", "message": "half of it"})).await;
    let task = server.task(&id).await;
    assert_eq!((&task["status"], &task["cancel"]["verdict"]), (&json!("cancelled"), &json!("cancelled")), "{task}");
    acknowledge(json!({})).await.assert_problem(409, "lease_lost");
}

#[tokio::test]
async fn of_two_heartbeats_that_wait_for_one_lease_the_later_one_waits_on() {
    let server = Server::with(["--kind", "a:lease_s=300"]);
    let (id, lease) = submit_and_take(&server, "w", json!({})).await;
    let body = json!({"worker": "w", "leases": [{"lease": lease}, {"lease": lease}], "wait_s": 30});
    let (first, second) = tokio::join!(server.post("/v1/leases/heartbeat", &body), async {
        // The server responds to the first heartbeat when the second arrives, not after thirty seconds.
        let later = server.post("/v1/leases/heartbeat", &body);
        let (later, ()) = tokio::join!(later, async {
            server.get("/healthz").await;
            cancel(&server, &id).await;
        });
        later
    });
    let directives = [first, second].map(|answer| answer.body["directives"].as_array().unwrap().len());
    assert!(directives.iter().any(|count| *count > 0), "{directives:?}");
}
