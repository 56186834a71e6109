//! Unique keys and idempotency keys on several servers.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::*;
use crate::support::{HttpResponse, Server, TEST_TIMEOUT};

const TASKS: &str = "/v1/tasks";

async fn with_idempotency(server: &Server, key: &str, body: &Value) -> HttpResponse {
    server.send(server.client().post(server.url() + TASKS).header("Idempotency-Key", key).json(body)).await
}

async fn cancel(server: &Server, id: &str) {
    let answer = server.post(&format!("{TASKS}/{id}/cancel"), &json!({})).await;
    assert_eq!(answer.body["status"], "cancelled", "{}", answer.text);
}

/// The only new task in these responses. All other responses must contain the same task.
fn only_new_task(answers: &[HttpResponse]) -> String {
    let new: Vec<&HttpResponse> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(new.len(), 1, "{:?}", answers.iter().map(|answer| &answer.text).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.id() == new[0].id() && [200, 201].contains(&answer.status)));
    new[0].id()
}

fn claims(cluster: &Cluster) -> usize {
    cluster.database.all().iter().filter(|event| event.stream.starts_with("taskbell_aux.key-")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_requests_with_one_key_on_three_servers_create_one_task() {
    let cluster = Cluster::start().await;
    let servers: [Server; 3] = cluster.servers().await;
    for round in 0..3 {
        let unique = json!({"kind": "a", "unique_key": format!("round {round}")});
        let holder = only_new_task(&join_all((0..15).map(|n| servers[n % 3].post(TASKS, &unique))).await);
        cancel(&servers[round], &holder).await;
        // The views of other servers need not show the cancel yet.
        let next = servers[(round + 1) % 3].post(TASKS, &unique).await;
        assert_eq!(next.status, 201, "{}", next.text);
        servers[round]
            .post(&format!("{TASKS}/{holder}/retry"), &json!({}))
            .await
            .assert_problem(409, "unique_key_taken");
        let (key, body) = (format!("round {round}"), json!({"kind": "b"}));
        only_new_task(&join_all((0..15).map(|n| with_idempotency(&servers[n % 3], &key, &body))).await);
        let other = with_idempotency(&servers[round], &key, &json!({"kind": "c"})).await;
        other.assert_problem(422, "idempotency_key_reused");
    }
    assert_eq!(cluster.event_count(), 3 * 5, "three tasks, and the two events of a cancel");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_batches_on_two_servers_at_once_create_one_task_for_each_key() {
    let cluster = Cluster::start().await;
    let [one, two] = cluster.servers().await;
    let item = |n: u64| json!({"kind": "a", "unique_key": format!("u{}", n % 20), "idempotency_key": format!("i{n}")});
    let plain = (0..20).map(|n| json!({"kind": "b", "idempotency_key": format!("p{n}")}));
    let items: Vec<Value> = (0..40).map(item).chain(plain).collect();
    let batch = json!({"items": items});
    let (a, b) = tokio::join!(one.post("/v1/tasks/batch", &batch), two.post("/v1/tasks/batch", &batch));
    assert_eq!((a.status, b.status), (200, 200), "{} {}", a.text, b.text);
    assert_eq!(a.body["items"], b.body["items"]);
    assert!(a.body["items"].as_array().unwrap().iter().all(|item| item["id"].is_string()), "{}", a.text);
    assert_eq!(cluster.event_count(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_whose_server_is_killed_between_the_claim_and_the_task_leads_to_its_task_when_it_is_repeated() {
    let cluster = Cluster::start().await;
    let [mut killed, other] = cluster.servers().await;
    let body = json!({"kind": "a", "unique_key": "nightly"});
    cluster.database.hold_responses(true);
    let request = killed.client().post(killed.url() + TASKS).header("Idempotency-Key", "k").json(&body);
    let request = tokio::spawn(request.send());
    // The requests that write the records of the servers may hang too.
    for hanging in 1.. {
        let hangs = cluster.database.wait_for_delayed_requests(hanging);
        tokio::time::timeout(TEST_TIMEOUT, hangs).await.expect("the claim in time");
        if claims(&cluster) > 0 {
            break;
        }
    }
    killed.kill9();
    assert!(request.await.unwrap().is_err());
    cluster.database.hold_responses(false);
    assert_eq!((claims(&cluster), cluster.event_count()), (1, 0));
    let repeated = with_idempotency(&other, "k", &body).await;
    assert_eq!((repeated.status, &repeated.body["kind"]), (200, &json!("a")), "{}", repeated.text);
    let held = other.post(TASKS, &body).await;
    assert_eq!((held.status, held.id()), (200, repeated.id()), "{}", held.text);
    with_idempotency(&other, "k", &json!({"kind": "b"})).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!((claims(&cluster), cluster.event_count()), (2, 1));
}
