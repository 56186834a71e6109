//! `taskbell log export` and `log import` of the exported file.

use super::*;

/// A server with tasks, a paused queue and a schedule, and its log.
async fn server() -> (Server, String) {
    let server = Server::start();
    for n in 0..30 {
        let body = json!({"kind": "k", "title": format!("task {n} é"), "owner": format!("owner {}", n % 3),
            "input": {"n": 1.50, "text": "a\u{85}b\u{2028}"}, "labels": {"set": "one"}});
        server.submit(&body).await;
    }
    let taken = server.post("/v1/leases", &json!({"worker": "w", "max": 20})).await;
    let ends: Vec<Value> = taken.body["leases"].as_array().unwrap().iter().map(|lease| {
        json!({"lease": lease["lease"], "outcome": "succeeded", "result": [1.0], "output": {"tail": "done", "dropped_bytes": 0}})
    }).collect();
    assert_eq!(server.post("/v1/leases/finish", &json!({"items": ends})).await.status, 200);
    server.post("/v1/queues/q/pause", &json!({"reason": "maintenance"})).await;
    server.post("/v1/schedules", &json!({"cron": "0 3 * * *", "task": {"kind": "k"}})).await;
    let log = server.get("/v1/log").await.text;
    (server, log)
}

fn import(file: &Path, data: &Path) -> Ended {
    let mut command = taskbell();
    command.args(["log", "import"]).arg(file).arg("--data").arg(data).stdin(Stdio::null());
    Ended::of(&command.output().expect("the command runs"))
}

#[tokio::test]
async fn an_exported_log_is_imported_event_for_event_and_hash_for_hash() {
    let (server, log) = server().await;
    let dir = TempDir::new().unwrap();
    let (file, data) = (dir.path().join("log.ndjson"), dir.path().join("data"));
    run(&server, &["log", "export", "--output", file.to_str().unwrap()]).exits(0);
    assert!(fs::read_to_string(&file).unwrap() == log, "the lines are those of the log");
    let exists = run(&server, &["log", "export", "--output", file.to_str().unwrap()]);
    exists.fails_with(1, &["log.ndjson", "exists"]);
    assert_eq!(run(&server, &["log", "export", "--from", "3", "--to", "5"]).exits(0).out.lines().count(), 3);
    assert_eq!(run(&server, &["log", "export"]).exits(0).out, log);
    let head = server.get("/v1/log/head").await.body;
    let beyond = (head["position"].as_u64().unwrap() + 1).to_string();
    run(&server, &["log", "export", "--to", &beyond]).fails_with(2, &["the log ends at position"]);

    // What an interrupted import has left.
    fs::create_dir_all(data.join("importing")).unwrap();
    fs::write(data.join("importing/log.db"), "a part").unwrap();
    let imported = import(&file, &data).exits(0);
    assert!(imported.out.contains(&format!("hash {}", head["hash"].as_str().unwrap())), "{imported:?}");
    import(&file, &data).fails_with(4, &["has a log already"]);

    let copy = Server::on_prepared_data::<[&str; 0]>(dir, &[], []);
    assert!(copy.get("/v1/log").await.text == log, "the copy has the same events");
    // The past says nothing about the workers that have asked the server for tasks.
    let list = format!("/v1/tasks?limit=200&owner=*&as_of={}", head["position"]);
    for path in [&list, "/v1/counters?owner=*", "/v1/schedules", "/v1/views/digest"] {
        assert_eq!(copy.get(path).await.body, server.get(path).await.body, "{path}");
    }
    assert!(!copy.data().join("importing").exists());
    copy.submit(&json!({"kind": "k", "title": "one more"})).await;
    run(&copy, &["views", "verify"]).exits(0);
}

#[tokio::test]
async fn an_export_as_ocel_has_every_event_once_and_relates_it_to_objects_that_exist() {
    let (server, log) = server().await;
    let ocel = run(&server, &["log", "export", "--format", "ocel2"]).exits(0).json();
    let events = ocel["events"].as_array().unwrap();
    let of_log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(events), ids(&of_log));
    let names = |list: &Value| list.as_array().unwrap().iter().map(|item| item["name"].clone()).collect::<Vec<_>>();
    let (event_types, object_types) = (names(&ocel["eventTypes"]), names(&ocel["objectTypes"]));
    let objects: std::collections::BTreeMap<&str, &Value> =
        ocel["objects"].as_array().unwrap().iter().map(|object| (object["id"].as_str().unwrap(), object)).collect();
    assert!(objects.values().all(|object| object_types.contains(&object["type"])));
    assert_eq!(objects.len(), ocel["objects"].as_array().unwrap().len(), "an id names one object");
    for event in events {
        assert!(event_types.contains(&event["type"]), "{event}");
        let related = event["relationships"].as_array().unwrap();
        assert!(!related.is_empty(), "{event}");
        assert!(related.iter().all(|to| objects.contains_key(to["objectId"].as_str().unwrap())), "{event}");
    }
    let of_type = |kind: &str| objects.values().filter(|object| object["type"] == kind).count();
    assert_eq!([of_type("task"), of_type("owner"), of_type("worker"), of_type("schedule")], [30, 3, 1, 1]);
    let completed = events.iter().find(|event| event["type"] == "Completed").unwrap();
    let qualifiers: Vec<_> =
        completed["relationships"].as_array().unwrap().iter().map(|to| to["qualifier"].clone()).collect();
    assert_eq!(qualifiers, ["task", "owner", "queue", "worker"]);
    let outcome = json!({"name": "outcome", "value": "succeeded"});
    assert!(completed["attributes"].as_array().unwrap().contains(&outcome), "{completed}");
    let middle = run(&server, &["log", "export", "--format", "ocel2", "--from", "40", "--to", "45"]).exits(0).json();
    assert_eq!(middle["events"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn lines_that_are_not_a_whole_log_are_refused_and_no_log_is_made() {
    let (_server, log) = server().await;
    let dir = TempDir::new().unwrap();
    let lines: Vec<&str> = log.lines().collect();
    let changed = lines[2].replace("task 2", "task 3");
    for (name, lines, words) in [
        ("changed", vec![lines[0], lines[1], &changed], ["line 3", "event 3 doesn't continue the chain"]),
        ("lost", vec![lines[0], lines[2]], ["line 2", "event 3 stands where event 2 is needed"]),
        ("middle", vec![lines[4]], ["line 1", "must begin at position 1"]),
        ("rubbish", vec![lines[0], "{\"position\": 2}"], ["line 2", "not a valid event"]),
        ("empty line", vec![lines[0], "", lines[1]], ["line 2", "not a valid event"]),
    ] {
        let (file, data) = (dir.path().join(name), dir.path().join(format!("{name} data")));
        fs::write(&file, lines.join("\n")).unwrap();
        import(&file, &data).fails_with(1, &words);
        assert!(!data.join("log.db").exists() && !data.join("importing").exists(), "{name}");
    }
    import(&dir.path().join("absent"), dir.path()).fails_with(2, &["absent"]);
}
