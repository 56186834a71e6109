//! `POST /v1/tasks/cancel` cancels every task that matches the filter, except tasks that carry out a bulk cancel.

use serde_json::{Value, json};

use super::super::support::Server;
use super::{assert_all_fields, event_types, log_head, pointers};

const PATH: &str = "/v1/tasks/cancel";

#[tokio::test]
async fn a_bulk_cancel_is_a_task_that_cancels_the_matching_tasks_and_ends() {
    let server = Server::start();
    let mut ids = Vec::new();
    for (kind, label) in [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")] {
        ids.push(server.submit(&json!({"kind": kind, "labels": {"l": label}})).await);
    }
    server.post(&format!("/v1/tasks/{}/cancel", ids[0]), &json!({})).await;
    let request = json!({"filter": {"kind": ["a", "c"], "label": ["l:x"]}, "reason": "spring cleaning"});
    let mut dry = request.clone();
    dry["dry_run"] = json!(true);
    let before = log_head(&server).await;
    let counted = server.post(PATH, &dry).await;
    assert_eq!((&counted.body["matched"], &counted.body["task"]), (&json!(1), &Value::Null), "{}", counted.text);
    assert_eq!(log_head(&server).await, before, "a dry run writes nothing");

    let answer = server.post(PATH, &request).await;
    assert_eq!((answer.status, &answer.body["matched"]), (202, &json!(1)), "{}", answer.text);
    let bulk = &answer.body["task"];
    assert_all_fields(bulk, true);
    assert_eq!(answer.position(), bulk["position"].as_u64().unwrap(), "the header reflects the task that is shown");
    assert_eq!((&bulk["kind"], &bulk["input"]["position"]), (&json!("taskbell.bulk-cancel"), &before["position"]));
    assert_eq!(bulk["queue"], "taskbell.system", "it waits behind no other task");
    let end = server.task_at_end(bulk["id"].as_str().unwrap()).await;
    assert_eq!((&end["status"], &end["progress"]["fraction"]), (&json!("succeeded"), &json!(1.0)), "{end}");
    let hit = server.task(&ids[1]).await;
    assert_eq!((&hit["status"], &hit["cancel"]["reason"]), (&json!("cancelled"), &json!("spring cleaning")), "{hit}");
    assert_eq!(hit["cancel"]["requested_by"], "local", "who asked, not who carried it out");
    for id in &ids[2..] {
        assert_eq!(server.task(id).await["status"], "queued");
    }
}

#[tokio::test]
async fn the_set_of_a_bulk_cancel_is_fixed_and_contains_no_bulk_cancel() {
    let root = tempfile::tempdir().unwrap();
    let args = ["--slots", "1", "--content-bytes-per-s", "150000", "--content-root", root.path().to_str().unwrap()];
    let server = Server::with(args);
    let busy = super::slow_task(&server, root.path()).await;
    let old = server.submit(&json!({"kind": "a"})).await;
    let first = server.post(PATH, &json!({"filter": {"status": "queued"}})).await;
    assert_eq!(first.body["matched"], 1, "{}", first.text);
    server.task_at_end(first.body["task"]["id"].as_str().unwrap()).await;
    let late = server.submit(&json!({"kind": "a"})).await;
    let again = format!("/v1/tasks/{}/retry", first.body["task"]["id"].as_str().unwrap());
    assert_eq!(server.post(&again, &json!({})).await.status, 202, "the same set once more");
    let second =
        server.post(PATH, &json!({"filter": {"status": ["queued", "running"], "kind": "taskbell.bulk-cancel"}})).await;
    assert_eq!((second.status, &second.body["matched"]), (202, &json!(0)), "{}", second.text);
    for answer in [&first, &second] {
        let end = server.task_at_end(answer.body["task"]["id"].as_str().unwrap()).await;
        assert_eq!(end["status"], "succeeded", "{end}");
        assert!(end["cancel"].is_null());
    }
    assert_eq!(server.task(&old).await["status"], "cancelled");
    assert_eq!(server.task(&late).await["status"], "queued", "it came later");
    assert_eq!(event_types(&server, &late).await, ["Created"]);
    assert_eq!(server.task_at_end(&busy).await["status"], "succeeded");
}

#[tokio::test]
async fn a_bulk_cancel_is_about_the_same_tasks_as_a_list_with_its_filter() {
    let server = Server::start();
    for owner in ["ann", "bob", "local"] {
        server.submit(&json!({"kind": "a", "owner": owner})).await;
    }
    for (owner, matched) in
        [(json!(null), 3), (json!("*"), 3), (json!(["*"]), 3), (json!(["ann", "bob"]), 2), (json!("eve"), 0)]
    {
        let mut filter = json!({"kind": "a"});
        if !owner.is_null() {
            filter["owner"] = owner.clone();
        }
        let answer = server.post(PATH, &json!({"filter": filter, "dry_run": true})).await;
        assert_eq!((answer.status, &answer.body["matched"]), (202, &json!(matched)), "{owner}: {}", answer.text);
    }
    let bulk = server.post(PATH, &json!({"filter": {"kind": "a", "owner": "*"}})).await;
    let end = server.task_at_end(bulk.body["task"]["id"].as_str().unwrap()).await;
    assert_eq!((&end["status"], &end["result"]["asked"]), (&json!("succeeded"), &json!(3)), "{end}");
}

#[tokio::test]
async fn a_bulk_cancel_does_not_wait_behind_the_tasks_that_it_cancels() {
    let root = tempfile::tempdir().unwrap();
    let args = ["--slots", "1", "--content-bytes-per-s", "50000", "--content-root", root.path().to_str().unwrap()];
    let server = Server::with(args);
    let busy = super::slow_task(&server, root.path()).await;
    let bulk = server.post(PATH, &json!({"filter": {"status": "running"}})).await;
    assert_eq!(bulk.body["matched"], 1, "{}", bulk.text);
    let id = bulk.body["task"]["id"].as_str().unwrap();
    let end = server.task_at_end(id).await;
    assert_eq!(end["status"], "succeeded", "{end}");
    let asked = server.task(&busy).await;
    assert!(asked["cancel"]["requested_at"].is_string(), "the only slot is taken, and still it was asked: {asked}");
    server.task_at_end(&busy).await;
    // Causation: the cancel request names the bulk cancel, the acknowledgement and the end name the cancel request.
    let events = server.get(&format!("/v1/tasks/{busy}/events")).await.body["items"].clone();
    let of = |kind: &str| events.as_array().unwrap().iter().find(|event| event["type"] == kind).unwrap().clone();
    let request = of("CancelRequested");
    assert_eq!(request["meta"]["causation_id"], id);
    for kind in ["CancelAcknowledged", "Completed"] {
        let meta = of(kind)["meta"].clone();
        assert_eq!(meta["correlation_id"], request["meta"]["correlation_id"], "{kind}");
        assert_eq!(meta["causation_id"], request["id"], "{kind}");
    }
    assert_eq!(of("Started")["meta"]["causation_id"], of("Created")["id"]);
}

#[tokio::test]
async fn an_empty_and_an_invalid_filter_are_refused() {
    let server = Server::start();
    server.submit(&json!({"kind": "a"})).await;
    for (filter, dry_run) in [(json!({}), false), (json!({}), true), (json!({"owner": "*"}), true)] {
        let answer = server.post(PATH, &json!({"filter": filter, "dry_run": dry_run})).await;
        answer.assert_problem(422, "empty_filter");
    }
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"filter": null}), "/filter"),
        (json!({"filter": []}), "/filter"),
        (json!({"filter": "kind=a"}), "/filter"),
        (json!({"filter": {"kind": ""}}), "/filter/kind"),
        (json!({"filter": {"kind": []}}), "/filter/kind"),
        (json!({"filter": {"kind": [""]}}), "/filter/kind"),
        (json!({"filter": {"kind": 5}}), "/filter/kind"),
        (json!({"filter": {"kind": "a", "owner": ["*", "ann"]}}), "/filter/owner"),
        (json!({"filter": {"status": ["queued", "gone"]}}), "/filter/status"),
        (json!({"filter": {"colour": "red"}}), "/filter/colour"),
        (json!({"filter": {"a/b~c": "red"}}), "/filter/a~1b~0c"),
        (json!({"filter": {"a/b~c": 5}}), "/filter/a~1b~0c"),
        (json!({"filter": {"kind": "a", "limit": "5"}}), "/filter/limit"),
        (json!({"filter": {"kind": "a", "as_of": "5"}}), "/filter/as_of"),
        (json!({"filter": {"kind": "a"}, "dry_run": "yes"}), "/dry_run"),
        (json!({"filter": {"kind": "a"}, "dry_run": null}), "/dry_run"),
        (json!({"filter": {"kind": "a"}, "reason": "x".repeat(1025)}), "/reason"),
        (json!({"filter": {"kind": "a"}, "more": 1}), "/more"),
        (json!([{"kind": "a"}]), ""),
    ] {
        let answer = server.post(PATH, &body).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
    }
    server.send(server.client().post(server.url() + PATH)).await.assert_problem(400, "malformed_json");
    assert_eq!(log_head(&server).await["position"], 1);
}
