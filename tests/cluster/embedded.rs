//! An application embeds Taskbell and stores its log in a cluster.

use std::time::Duration;

use taskbell::{Options, Status, Taskbell};
use tokio::time::timeout;

use super::*;
use crate::support::TEST_TIMEOUT;

fn options(cluster: &Cluster) -> Options {
    Options { store: Some(cluster.url().parse().unwrap()), ..Options::default() }
}

#[actix_rt::test]
async fn an_application_starts_and_stops_while_its_cluster_is_away_and_its_tasks_are_refused_for_now() {
    let mut cluster = Cluster::start().await;
    cluster.stop().await;
    let taskbell = timeout(TEST_TIMEOUT, Taskbell::start(options(&cluster))).await.unwrap().unwrap();
    let problem = taskbell.submit("report", json!({})).await.unwrap_err();
    assert_eq!((problem.status.as_u16(), problem.code, problem.retryable), (503, "behind", true), "{problem}");
    timeout(Duration::from_secs(20), taskbell.stop()).await.expect("it stops although it never caught up");
}

#[actix_rt::test]
async fn an_application_shares_its_tasks_with_the_servers_of_its_cluster() {
    let cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    let taskbell = Taskbell::start(options(&cluster)).await.unwrap();
    timeout(TEST_TIMEOUT, taskbell.caught_up()).await.unwrap();
    let id = taskbell.submit("report", json!({})).await.unwrap();
    assert_eq!(taskbell.status(id), Some(Status::Queued));
    let shown = server.get(&format!("/v1/tasks/{id}?min_position=1")).await;
    assert_eq!((shown.status, &shown.body["status"]), (200, &json!("queued")), "{}", shown.text);
    taskbell.stop().await;
}
