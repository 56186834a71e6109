//! A server whose log has lost events doesn't start, until its operator accepts this.

use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;

use super::start::data_of_a_killed_server;
use crate::support::{LiveSocket, Server, taskbell};

/// A folder whose log has lost the events of the write-ahead log.
async fn truncated() -> TempDir {
    let left = data_of_a_killed_server().await;
    std::fs::remove_file(left.path().join("data/log.db-wal")).unwrap();
    left
}

/// What `taskbell serve` says on this folder when it doesn't start.
fn refusal(dir: &TempDir) -> String {
    let mut command = taskbell();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path().join("data")).current_dir(dir.path());
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

async fn epoch(server: &Server) -> String {
    LiveSocket::open(server).await.next_of_type("hello").await["epoch"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_refusal_names_the_loss_and_the_way_out_and_the_accepted_log_goes_on_under_a_new_id() {
    let dir = truncated().await;
    let before = std::fs::read_to_string(dir.path().join("data/log.witness")).unwrap();
    let sentence = refusal(&dir);
    for words in
        ["log.db ends at position 0", "names position 20", "taskbell serve --data", "--accept-truncation", "epoch"]
    {
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
    let mut server = Server::on_prepared_data(dir, &[], ["--accept-truncation"]);
    assert!(server.stderr().contains("the log goes on with the events that it has"), "{}", server.stderr());
    let new = epoch(&server).await;
    assert!(!before.contains(&new), "a new id");
    let id = server.submit(&json!({"kind": "no.worker"})).await;
    server.restart();
    assert_eq!((epoch(&server).await, &server.task(&id).await["status"]), (new, &json!("queued")));
    assert!(server.stderr().contains("remove the setting"), "{}", server.stderr());
}

#[tokio::test]
async fn the_setting_may_be_a_variable_or_stand_in_the_file() {
    let by_variable = Server::on_prepared_data(truncated().await, &[("TASKBELL_ACCEPT_TRUNCATION", "true")], [""; 0]);
    let dir = truncated().await;
    std::fs::write(dir.path().join("taskbell.toml"), "accept_truncation = true\n").unwrap();
    let by_file = Server::on_prepared_data(dir, &[], [""; 0]);
    for server in [by_variable, by_file] {
        assert_eq!(server.get("/v1/log/head").await.body["position"], 0);
    }
}

#[tokio::test]
async fn a_log_whose_write_ahead_log_is_damaged_goes_on_with_the_events_before_the_damage() {
    let left = data_of_a_killed_server().await;
    let path = left.path().join("data/log.db-wal");
    let mut wal = std::fs::read(&path).unwrap();
    let middle = wal.len() / 2;
    wal[middle] ^= 1;
    std::fs::write(&path, wal).unwrap();
    assert!(refusal(&left).contains("log.db-wal is damaged at byte"));
    let server = Server::on_prepared_data(left, &[], ["--accept-truncation"]);
    // The server itself records that the tasks are ready.
    let created = server.get("/v1/log?type=Created").await.text.lines().count();
    assert!((1..20).contains(&created), "{created}");
}
