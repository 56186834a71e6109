//! `taskbell backup`: a copy of the log while a server writes it, and a server on the copy.

use taskbell::store::EventStore;

use super::*;

fn backup(data: &Path, target: &Path) -> Ended {
    let mut command = taskbell();
    command.arg("backup").arg(target).arg("--data").arg(data).arg("--json").stdin(Stdio::null());
    Ended::of(&command.output().expect("the command runs"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_made_while_a_server_writes_is_the_log_of_one_moment() {
    let mut server = Server::start();
    let dir = TempDir::new().unwrap();
    let target = dir.path().join("data");
    let items: Vec<Value> =
        (0..200).map(|n| json!({"kind": "k", "title": format!("task {n}"), "owner": "ann"})).collect();
    let batch = json!({"items": items});
    server.post("/v1/tasks/batch", &batch).await;
    let (data, folder) = (server.data(), target.clone());
    let mut copying = tokio::task::spawn_blocking(move || backup(&data, &folder));
    let copied = loop {
        tokio::select! {
            copied = &mut copying => break copied.unwrap(),
            written = server.post("/v1/tasks/batch", &batch) => assert_eq!(written.status, 200),
        }
    };
    let copied = copied.exits(0).json();
    let position = copied["position"].as_u64().unwrap();
    assert!(position >= 200 && position % 200 == 0, "{copied}: a batch is in the copy as a whole, or not at all");
    backup(&server.data(), &target).fails_with(4, &["has a log already"]);
    backup(&target.join("nothing"), &dir.path().join("other")).fails_with(2, &["has no log"]);
    let counted = server.get(&format!("/v1/counters?owner=*&as_of={position}")).await.body;
    let lines = server.get(&format!("/v1/log?limit={position}")).await.text;

    let mut refused = taskbell();
    refused.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&target).stdin(Stdio::null());
    let refused = Ended::of(&refused.output().expect("the command runs"));
    assert!(refused.exit != 0 && refused.err.contains("--accept-truncation"), "{refused:?}");
    let mut copy = Server::on_prepared_data(dir, &[("TASKBELL_ACCEPT_TRUNCATION", "true")], [] as [&str; 0]);
    assert!(copy.get("/v1/log").await.text == lines, "the copy has the first {position} events");
    assert_eq!(copy.get("/v1/counters?owner=*").await.body, counted);
    copy.submit(&json!({"kind": "k"})).await;
    assert!(server.stop().success() && copy.stop().success());
    let [one, other] = [server.data(), copy.data()].map(|data| EventStore::open(&data).unwrap());
    assert_ne!(one.epoch(), other.epoch());
}
