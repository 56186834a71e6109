//! What a client that follows the protocol can rely on.

use std::collections::HashSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::fold::Fold;
use crate::support::{LiveSocket, Server, is_final};

fn idle_task(title: &str) -> Value {
    json!({"kind": "nobody.works", "title": title})
}

async fn subscribe(live: &mut LiveSocket, filter: Value) -> u64 {
    live.send(&json!({"type": "subscribe", "filter": filter})).await;
    live.next_of_type("subscribed").await["position"].as_u64().unwrap()
}

async fn cancel(server: &Server, id: &str) -> u64 {
    let answer = server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.position()
}

fn ids(frame: &Value) -> Vec<&str> {
    frame["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn hello_comes_first_then_a_snapshot_and_resync_answers_another() {
    let server = Server::start();
    server.submit(&idle_task("one")).await;
    let mut live = LiveSocket::open(&server).await;
    let (hello, snapshot) = (live.next().await, live.next().await);
    assert_eq!((&hello["type"], &hello["position"]), (&json!("hello"), &json!(1)));
    assert!(hello["epoch"].is_string() && hello["time"].is_string(), "{hello}");
    let polled = server.get("/v1/counters").await.body;
    let mut wanted = polled.clone();
    wanted["type"] = json!("snapshot");
    assert_eq!(snapshot, wanted);
    live.send(&json!({"type": "resync"})).await;
    assert_eq!(live.next().await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_read_after_subscribed_and_the_frames_lose_no_task() {
    let server = Server::start();
    for round in 0..8 {
        let kind = format!("race.{round}");
        let mut live = LiveSocket::open(&server).await;
        live.next_of_type("snapshot").await;
        let creates = join_all((0..20).map(|n| {
            let (to, kind) = (&server, &kind);
            async move { to.submit(&json!({"kind": kind, "title": format!("{n}")})).await }
        }));
        let look = async {
            let position = subscribe(&mut live, json!({"kind": [kind]})).await;
            let page = server.get(&format!("/v1/tasks?kind={kind}&limit=200&min_position={position}")).await.body;
            ids(&page).into_iter().map(str::to_owned).collect::<HashSet<_>>()
        };
        let (all, mut known) = tokio::join!(creates, look);
        let wanted: HashSet<String> = all.into_iter().collect();
        while known.len() < wanted.len() {
            let frame = live.next_of_type("tasks").await;
            known.extend(ids(&frame).into_iter().map(str::to_owned));
        }
        assert_eq!(known, wanted);
    }
}

#[tokio::test]
async fn a_subscription_of_ids_holds_until_another_replaces_it() {
    let server = Server::start();
    let mut tasks = Vec::new();
    for n in 0..4 {
        tasks.push(server.submit(&idle_task(&format!("{n}"))).await);
    }
    let mut live = LiveSocket::open(&server).await;
    subscribe(&mut live, json!({"ids": [tasks[1]]})).await;
    cancel(&server, &tasks[0]).await;
    cancel(&server, &tasks[1]).await;
    let frame = live.next_of_type("tasks").await;
    assert_eq!(ids(&frame), [tasks[1].as_str()]);
    assert_eq!(frame["items"][0]["status"], "cancelled");
    subscribe(&mut live, json!({"status": ["queued"]})).await;
    cancel(&server, &tasks[2]).await;
    let frame = live.next_of_type("tasks").await;
    assert_eq!(ids(&frame), [tasks[2].as_str()], "a task that leaves the filter is sent once more");
    live.send(&json!({"type": "unsubscribe"})).await;
    // The server handles messages in order, so after the snapshot the subscription has ended.
    live.send(&json!({"type": "resync"})).await;
    live.next_of_type("snapshot").await;
    let position = cancel(&server, &tasks[3]).await;
    loop {
        let frame = live.next().await;
        assert!(frame["type"] != "tasks" && frame["type"] != "tasks_changed", "{frame}");
        if frame["type"] == "counters" && frame["position"].as_u64().unwrap() >= position {
            break;
        }
    }
}

#[tokio::test]
async fn more_changed_tasks_than_a_frame_lists_are_one_tasks_changed_frame() {
    let server = Server::start();
    let mut live = LiveSocket::open(&server).await;
    subscribe(&mut live, json!({"kind": ["nobody.works"]})).await;
    let items: Vec<Value> = (0..1000).map(|n| idle_task(&format!("{n}"))).collect();
    let changed = 'changed: loop {
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        loop {
            let frame = live.next().await;
            match frame["type"].as_str().unwrap() {
                "tasks_changed" => break 'changed frame,
                "tasks" => assert!(ids(&frame).len() <= 200),
                "counters" if frame["position"].as_u64().unwrap() >= answer.position() => break,
                _ => {}
            }
        }
    };
    let page = server.get(&format!("/v1/tasks?min_position={}", changed["position"])).await;
    assert_eq!(page.status, 200, "{}", page.text);
}

#[tokio::test]
async fn a_seen_message_is_recorded_and_shown_in_the_next_counters() {
    let server = Server::start();
    let id = server.submit(&idle_task("one")).await;
    let mut live = LiveSocket::open(&server).await;
    live.next_of_type("snapshot").await;
    let position = cancel(&server, &id).await;
    let after_cancel = live.next_of_type("counters").await;
    assert_eq!((&after_cancel["position"], &after_cancel["unseen"]["cancelled"]), (&json!(position), &json!(1)));
    live.send(&json!({"type": "seen", "position": position})).await;
    let after_seen = live.next_of_type("counters").await;
    assert_eq!((&after_seen["previous"], &after_seen["position"]), (&after_cancel["position"], &json!(position + 1)));
    assert_eq!((&after_seen["seen"], &after_seen["unseen"]["cancelled"]), (&json!(position), &json!(0)));
    assert_eq!(server.get("/v1/counters").await.body["seen"], position);
}

#[tokio::test]
async fn a_socket_shows_the_bell_that_its_address_names_and_a_subscription_the_owners_that_its_filter_names() {
    let server = Server::start();
    let task_of = |owner: &str| json!({"kind": "nobody.works", "owner": owner});
    let mut ann = LiveSocket::open_path(&server, "/v1/live?owner=ann").await;
    let mut all = LiveSocket::open_path(&server, "/v1/live?owner=*").await;
    subscribe(&mut ann, json!({"owner": "*"})).await;
    subscribe(&mut all, json!({"owner": ["ann"]})).await;
    let bob = server.submit(&task_of("bob")).await;
    assert_eq!(ids(&ann.next_of_type("tasks").await), [bob.as_str()]);
    assert_eq!(all.next_of_type("counters").await["counts"]["queued"], 1);
    let id = server.submit(&task_of("ann")).await;
    let counters = ann.next_of_type("counters").await;
    assert_eq!((&counters["previous"], &counters["counts"]["queued"]), (&json!(0), &json!(1)), "{counters}");
    assert_eq!(ids(&all.next_of_type("tasks").await), [id.as_str()]);
    for (query, pointer) in [
        ("owner=ann,bob", "/query/owner"),
        ("owner=*,ann", "/query/owner"),
        ("owner=", "/query/owner"),
        ("own=a", "/query/own"),
    ] {
        let answer = server.get(&format!("/v1/live?{query}")).await;
        answer.assert_problem(422, "invalid_request");
        assert_eq!(answer.body["errors"][0]["pointer"], pointer, "{query}");
    }
    ann.send(&json!({"type": "subscribe", "filter": {"owner": ["*", "ann"]}})).await;
    assert_eq!(ann.next_of_type("problem").await["errors"][0]["pointer"], "/filter/owner");
}

#[tokio::test]
async fn what_a_caller_has_seen_counts_for_the_bell_of_everyone_and_what_an_owner_has_seen_for_that_owners() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a", "owner": "ann"})).await;
    let position = cancel(&server, &id).await;
    let mut all = LiveSocket::open_path(&server, "/v1/live?owner=*").await;
    assert_eq!(all.next_of_type("snapshot").await["unseen"]["cancelled"], 1);
    all.send(&json!({"type": "seen", "position": position})).await;
    let after = all.next_of_type("counters").await;
    assert_eq!((&after["seen"], &after["unseen"]["cancelled"]), (&json!(position), &json!(0)), "{after}");
    let ann = server.get("/v1/counters?owner=ann").await.body;
    assert_eq!((&ann["seen"], &ann["unseen"]["cancelled"]), (&json!(0), &json!(1)), "{ann}");
}

#[tokio::test]
async fn the_frames_show_the_growing_progress_of_a_distribution() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("source")).unwrap();
    for n in 0..6 {
        std::fs::write(root.path().join(format!("source/{n}")), vec![7; 256 * 1024]).unwrap();
    }
    let server = Server::with_content(root.path(), Some(1024 * 1024));
    let mut live = LiveSocket::open(&server).await;
    subscribe(&mut live, json!({"kind": ["content.distribute"]})).await;
    let input = json!({"source": root.path().join("source"), "targets": [root.path().join("copy")]});
    server.submit(&json!({"kind": "content.distribute", "input": input})).await;
    let mut fractions = Vec::new();
    loop {
        let frame = live.next_of_type("tasks").await;
        let task = &frame["items"][0];
        if let Some(fraction) = task["progress"]["fraction"].as_f64() {
            fractions.push(fraction);
        }
        if is_final(task) {
            assert_eq!(task["status"], "succeeded", "{task}");
            break;
        }
    }
    assert!(fractions.is_sorted(), "{fractions:?}");
    fractions.dedup();
    assert!(fractions.len() > 3, "{fractions:?}");
}

#[tokio::test]
async fn after_a_restart_the_epoch_is_the_same_and_the_counts_are_exact() {
    let mut server = Server::start();
    let mut live = LiveSocket::open(&server).await;
    let hello = live.next_of_type("hello").await;
    for n in 0..5 {
        let id = server.submit(&idle_task(&format!("{n}"))).await;
        if n % 2 == 0 {
            cancel(&server, &id).await;
        }
    }
    server.post("/v1/bell/seen", &json!({"position": 4})).await;
    server.kill9();
    while live.next_or_close().await.is_ok() {}
    server.restart();
    let mut live = LiveSocket::open(&server).await;
    assert_eq!(live.next_of_type("hello").await["epoch"], hello["epoch"]);
    let snapshot = live.next_of_type("snapshot").await;
    let fold = Fold::of(&server.get("/v1/log").await.text, "local");
    let bell = fold.bell(snapshot["position"].as_u64().unwrap());
    for field in ["counts", "unseen", "seen"] {
        assert_eq!(snapshot[field], bell[field]);
    }
    assert_eq!(snapshot["position"], fold.head());
}
