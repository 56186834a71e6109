//! The command `taskbell log import`, run as a process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::*;
use crate::support::{self, taskbell};

fn command(data: &Path, to: std::net::SocketAddr, more: &[&str]) -> Command {
    let mut command = taskbell();
    command.args(["log", "import", "--to", &format!("esdb://{to}?tls=false"), "--data"]).arg(data).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[track_caller]
fn fails(output: &Output, exit: i32, reason: &str) {
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(exit) && sentence.contains(reason), "{:?}: {sentence}", output.status);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_import_is_continued_by_the_next_one() {
    let folder = Folder::with(3000).await;
    let (database, server) = database().await;
    let mut killed = command(folder.path(), server.addr(), &[]).spawn().unwrap();
    let progress = BufReader::new(killed.stderr.take().unwrap()).lines();
    let seen = progress.map(Result::unwrap).find(|line| line == "copied up to position 1000");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(seen.is_some());
    let output = run(command(folder.path(), server.addr(), &["--json"])).await;
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["position"], &answer["hash"]), (&3000.into(), &folder.head.hash.to_string().into()));
    let copied = answer["copied"].as_u64().unwrap();
    assert!((1..=2000).contains(&copied), "{copied}");
    let claims = database.streams().iter().filter(|stream| stream.starts_with("taskbell_aux.key-")).count();
    assert!(claims > 0 && answer["claims"] == claims, "{answer}");
    folder.is_in(&database, &ready(connect(server.addr(), "taskbell")).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcome_is_a_sentence_and_an_exit_code() {
    let folder = Folder::with(20).await;
    let (_database, server) = database().await;
    let done = run(command(folder.path(), server.addr(), &[])).await;
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("contains the same 20 events; 20 of them were copied now"), "{text}");
    assert!(text.contains(&format!("position 20  hash {}", folder.head.hash)), "{text}");

    let nothing = tempfile::tempdir().unwrap();
    fails(&run(command(nothing.path(), server.addr(), &[])).await, 2, "the folder contains no log");
    fails(&run(command(Folder::with(1).await.path(), server.addr(), &[])).await, 4, "another log under this prefix");
    let running = support::Server::start();
    fails(&run(command(&running.data(), server.addr(), &[])).await, 4, "another process uses");
}
