//! Servers that share a log show the same tasks.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::*;
use crate::proxy::{Mode, Proxy};
use crate::support::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_one_server_has_created_is_read_on_another_one_at_its_position() {
    let cluster = Cluster::start().await;
    let [one, two] = cluster.servers().await;
    for n in 0..20 {
        let created = one.post("/v1/tasks", &json!({"kind": "report", "title": format!("task {n}")})).await;
        assert_eq!(created.status, 201, "{}", created.text);
        let path = format!("/v1/tasks/{}?min_position={}", created.id(), created.position());
        let read = two.get(&path).await;
        assert_eq!((read.status, &read.body), (200, &created.body), "{}", read.text);
    }
    assert_eq!(counters(&one, 20).await, counters(&two, 20).await);
    assert_eq!(cluster.event_count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_on_one_server_reaches_the_worker_that_sends_its_heartbeats_to_another_one() {
    let cluster = Cluster::start().await;
    let [one, two] = cluster.servers().await;
    let id = one.submit(&json!({"kind": "report"})).await;
    let lease = take_lease(&one, "w1", "report").await;
    assert_eq!(lease["task_id"], id);
    let token = lease["lease"].as_str().unwrap();
    let started = one.task(&id).await["position"].as_u64().unwrap();
    let beat = json!({"worker": "w1", "leases": [{"lease": token}], "wait_s": 10});
    let waiting = one.post("/v1/leases/heartbeat", &beat);
    let cancel = async {
        let shown = two.get(&format!("/v1/tasks/{id}?min_position={started}")).await;
        assert_eq!(shown.body["status"], "running", "{}", shown.text);
        two.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "wrong folder"})).await
    };
    let (directives, cancelled) = tokio::join!(waiting, cancel);
    assert_eq!((cancelled.status, &cancelled.body["status"]), (202, &json!("cancelling")), "{}", cancelled.text);
    assert_eq!(directives.body["directives"], json!([{"lease": token, "directive": "cancel"}]));
    let finish = json!({"items": [{"lease": token, "outcome": "cancelled"}]});
    let finished = two.post("/v1/leases/finish", &finish).await;
    assert_eq!(finished.body["items"][0]["status"], "cancelled", "{}", finished.text);
    let end = cluster.event_count();
    let (a, b) = (counters(&one, end).await, counters(&two, end).await);
    assert_eq!((&a, &a["counts"]["cancelled"], &a["position"]), (&b, &json!(1), &json!(end)));
}

/// Creates tasks in one request and returns their ids.
async fn create_many(server: &Server, count: usize) -> Vec<String> {
    let items = vec![json!({"kind": "report"}); count];
    let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
    let items = answer.body["items"].as_array().unwrap_or_else(|| panic!("{}", answer.text));
    items.iter().map(|item| item["id"].as_str().unwrap_or_else(|| panic!("{item}")).to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_write_at_the_same_time_show_the_same_counters_and_the_same_chain_at_the_same_position() {
    const EACH: usize = 50;
    let cluster = Cluster::start().await;
    let servers: [Server; 3] = cluster.servers().await;
    let created = join_all(servers.iter().map(|server| create_many(server, EACH))).await;
    let ids: Vec<String> = created.into_iter().flatten().collect();
    let before = cluster.event_count();
    join_all(servers.iter().map(|server| counters(server, before))).await;
    // Two servers cancel each task at the same time. The write of one of them is refused, and when it decides again,
    // the task is already cancelled.
    let cancels = ids.iter().enumerate().flat_map(|(n, id)| {
        let path = format!("/v1/tasks/{id}/cancel");
        [&servers[n % 3], &servers[(n + 1) % 3]].map(|server| {
            let path = path.clone();
            async move { server.post(&path, &json!({})).await }
        })
    });
    for answer in join_all(cancels).await {
        assert!([200, 202].contains(&answer.status) && answer.body["status"] == "cancelled", "{}", answer.text);
    }
    let late = cluster.server(["--slots", "1"]);
    wait_until_fresh(&late).await;
    let end = cluster.event_count();
    assert_eq!(end, 3 * ids.len() as u64, "created, requested, completed");
    let expected = counters(&late, end).await;
    assert_eq!((&expected["counts"]["cancelled"], &expected["position"]), (&json!(3 * EACH), &json!(end)));
    let head = late.get("/v1/log/head").await.body;
    for server in &servers {
        assert_eq!(counters(server, end).await, expected);
        assert_eq!(server.get("/v1/log/head").await.body, head);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn installations_with_other_prefixes_in_one_database_do_not_see_each_other() {
    let cluster = Cluster::start().await;
    let ours = Server::on_cluster(&url(cluster.addr(), "shop"), ["--slots", "1"]);
    let theirs = Server::on_cluster(&url(cluster.addr(), "shop2"), ["--slots", "1"]);
    wait_until_fresh(&ours).await;
    wait_until_fresh(&theirs).await;
    let id = ours.submit(&json!({"kind": "report"})).await;
    theirs.submit(&json!({"kind": "other"})).await;
    assert_eq!(theirs.get(&format!("/v1/tasks/{id}")).await.status, 404);
    for server in [&ours, &theirs] {
        let head = server.get("/v1/log/head").await;
        assert_eq!(head.body["position"], 1, "{}", head.text);
        assert_eq!(server.get("/v1/tasks").await.body["total"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_a_cluster_creates_no_data_folder() {
    let cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    server.submit(&json!({"kind": "report"})).await;
    let files: Vec<_> = std::fs::read_dir(server.folder()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["stderr"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_killed_shows_after_its_start_what_others_have_written_meanwhile() {
    let cluster = Cluster::start().await;
    let [mut one, two] = cluster.servers().await;
    let before = one.submit(&json!({"kind": "report"})).await;
    one.kill9();
    let meanwhile = two.submit(&json!({"kind": "report"})).await;
    one.restart();
    wait_until_fresh(&one).await;
    for id in [before, meanwhile] {
        assert_eq!(one.task(&id).await, two.task(&id).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_receives_the_log_later_takes_what_a_client_knows_from_another_one() {
    let cluster = Cluster::start().await;
    let proxy = Proxy::start(cluster.addr()).await;
    let [one] = cluster.servers().await;
    let two = Server::on_cluster::<[&str; 0]>(&url(proxy.addr(), "taskbell"), []);
    wait_until_fresh(&two).await;
    proxy.set_mode(Mode::Delay(Duration::from_millis(300)));
    let parent = one.submit(&json!({"kind": "a"})).await;
    let child = two.post("/v1/tasks", &json!({"kind": "b", "parent": parent})).await;
    assert_eq!((child.status, &child.body["parent"]), (201, &json!(parent)), "{}", child.text);
    let parent = one.submit(&json!({"kind": "a"})).await;
    let batch = json!({"items": [{"kind": "b", "parent": parent}]});
    let batch = two.post("/v1/tasks/batch", &batch).await;
    assert!(batch.body["items"][0]["id"].is_string(), "{}", batch.text);
    let unknown = json!({"kind": "b", "parent": taskbell::store::new_id()});
    two.post("/v1/tasks", &unknown).await.assert_problem(422, "invalid_request");
    one.submit(&json!({"kind": "a"})).await;
    let seen = two.post("/v1/bell/seen", &json!({"position": cluster.event_count()})).await;
    assert_eq!(seen.status, 204, "{}", seen.text);
}
