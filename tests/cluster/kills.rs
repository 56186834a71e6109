//! The database and servers are killed while clients write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::*;
use crate::support::{TEST_TIMEOUT, http_client};

/// What a client knows about the tasks that it wanted to create, by title. No two tasks have the same title.
#[derive(Default)]
struct KnownTasks {
    /// The ids of acknowledged tasks.
    acknowledged: BTreeMap<String, String>,
    /// Tasks whose request was refused or got no response.
    unacknowledged: BTreeSet<String>,
}

/// Creates one task after the other until `stop`. `acknowledged` counts the acknowledged tasks of all clients.
async fn create_tasks(
    address: String,
    writer: usize,
    (stop, titles): (Arc<AtomicBool>, Arc<AtomicU64>),
    acknowledged: watch::Sender<u64>,
) -> KnownTasks {
    let client = http_client();
    let mut known = KnownTasks::default();
    while !stop.load(Ordering::Relaxed) {
        let title = format!("{writer}-{}", titles.fetch_add(1, Ordering::Relaxed));
        let request = client.post(format!("{address}/v1/tasks")).json(&json!({"kind": "report", "title": title}));
        let Ok(answer) = request.send().await else {
            // The server was killed. The other clients continue.
            known.unacknowledged.insert(title);
            break;
        };
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        match (status, body["id"].as_str()) {
            (201, Some(id)) => {
                known.acknowledged.insert(title, id.to_owned());
                acknowledged.send_modify(|count| *count += 1);
            }
            (503, _) => {
                assert_eq!((&body["code"], &body["retryable"]), (&json!("log_unavailable"), &json!(true)), "{body}");
                known.unacknowledged.insert(title);
            }
            _ => panic!("{status} {body}"),
        }
    }
    known
}

/// The ids of all tasks in the server's list, by title.
async fn listed(server: &Server) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut path = "/v1/tasks?limit=200".to_owned();
    loop {
        let page = server.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for task in page.body["items"].as_array().unwrap() {
            let text = |field: &str| task[field].as_str().unwrap().to_owned();
            found.entry(text("title")).or_default().push(text("id"));
        }
        let Some(next) = page.body["next"].as_str() else { return found };
        path = format!("/v1/tasks?limit=200&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_once_and_nothing_else_is_whatever_is_killed_under_the_writers() {
    let mut cluster = Cluster::start().await;
    let [one, mut two, three] = cluster.servers().await;
    let shared = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let acknowledged = watch::Sender::new(0);
    let writers = [&one, &one, &two, &two, &three, &three].map(Server::url).into_iter().enumerate();
    let writers: Vec<_> = writers
        .map(|(writer, address)| tokio::spawn(create_tasks(address, writer, shared.clone(), acknowledged.clone())))
        .collect();
    let mut count = acknowledged.subscribe();
    for round in 1..=4 {
        let due = *count.borrow() + 60;
        timeout(TEST_TIMEOUT, count.wait_for(|count| *count >= due)).await.expect("the writers go on").unwrap();
        cluster.stop().await;
        cluster.restart().await;
        if round == 2 {
            two.kill9();
        }
    }
    let due = *count.borrow() + 60;
    timeout(TEST_TIMEOUT, count.wait_for(|count| *count >= due)).await.expect("the writers go on").unwrap();
    shared.0.store(true, Ordering::Relaxed);
    let known: Vec<KnownTasks> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    two.restart();
    join_all([&one, &two, &three].map(wait_until_fresh)).await;
    let end = cluster.event_count();
    let expected = counters(&one, end).await;
    for server in [&one, &two, &three] {
        assert_eq!(counters(server, end).await, expected);
        let listed = listed(server).await;
        for (title, id) in known.iter().flat_map(|known| &known.acknowledged) {
            assert_eq!(listed.get(title), Some(&vec![id.clone()]), "{title} was acknowledged");
        }
        for (title, ids) in &listed {
            let is_known =
                |known: &KnownTasks| known.acknowledged.contains_key(title) || known.unacknowledged.contains(title);
            assert!(ids.len() == 1 && known.iter().any(is_known), "{title}: {ids:?}");
        }
    }
    let refused: usize = known.iter().map(|known| known.unacknowledged.len()).sum();
    println!("acknowledged {}, refused {refused}, in the log {end}", *count.borrow());
}
