//! `taskbell views`: proves that the views are those of the log, and rebuilds them.

use taskbell::internal::Refold;

use super::*;

/// A server with some tasks in different states.
async fn server() -> Server {
    let server = Server::start();
    let ids = [1, 2, 3].map(|n| json!({"kind": "k", "title": format!("task {n}"), "owner": "ann", "input": {"n": n}}));
    let mut created = Vec::new();
    for body in &ids {
        created.push(server.submit(body).await);
    }
    server.post(&format!("/v1/tasks/{}/cancel", created[0]), &json!({})).await;
    let taken = server.post("/v1/leases", &json!({"worker": "w", "max": 1})).await;
    let lease = &taken.body["leases"][0]["lease"];
    let ends = json!({"items": [{"lease": lease, "outcome": "succeeded", "result": [1.50]}]});
    assert_eq!(server.post("/v1/leases/finish", &ends).await.status, 200);
    server
}

#[tokio::test]
async fn a_server_whose_views_are_those_of_its_log_is_verified() {
    let mut server = server().await;
    let verified = run(&server, &["views", "verify"]).exits(0);
    assert!(verified.out.starts_with("equal: 7 events"), "{verified:?}");
    let head = server.get("/v1/log/head").await.body;
    let answer = run(&server, &["views", "verify", "--json"]).exits(0).json();
    assert_eq!(answer, json!({"equal": true, "position": 7, "hash": head["hash"], "differing": []}));

    assert!(server.stop().success());
    let data = server.data().display().to_string();
    let rebuilt = run(&server, &["views", "rebuild", "--data", &data]).exits(0);
    assert_eq!(rebuilt.out, "the views are rebuilt: 3 tasks at position 7\n");
    assert_eq!(fs::read_dir(server.data().join("snapshots")).unwrap().count(), 1);
    let rebuilt = run(&server, &["views", "rebuild", "--json", "--data", &data]).exits(0).json();
    assert_eq!(rebuilt, json!({"position": 7, "tasks": 3}));
    server.restart();
    run(&server, &["views", "verify"]).exits(0);
    run(&server, &["views", "rebuild", "--data", &data]).fails_with(4, &["a server uses the data folder", "stop it"]);
}

#[tokio::test]
async fn a_changed_a_missing_and_a_moved_event_are_named() {
    let server = server().await;
    let log = server.get("/v1/log").await.text;
    let lines: Vec<&str> = log.lines().collect();
    let apply = |lines: &[&str]| {
        let mut refold = Refold::default();
        lines
            .iter()
            .try_for_each(|line| refold.apply(line).map(drop))
            .map(|()| refold)
            .map_err(|error| error.to_string())
    };
    let whole = apply(&lines).unwrap();
    let shown = server.get("/v1/views/digest").await.body;
    assert_eq!(serde_json::to_value(whole.digests()).unwrap(), shown["digests"]);
    let changed = lines[1].replace("task 2", "task 7");
    for (lines, named) in [
        (vec![lines[0], &changed], "event 2"),
        (vec![lines[0], lines[2]], "event 2 is missing"),
        (vec![lines[1]], "event 1 is missing"),
        (vec!["{}"], "not a valid event"),
    ] {
        let error = apply(&lines).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
    let fewer = apply(&lines[..4]).unwrap().digests();
    assert_ne!(fewer.counters, whole.digests().counters);
    assert_eq!(fewer.credentials, whole.digests().credentials);
}
