//! The command `taskbell log upgrade`, run as a process.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::*;
use crate::support::{self, taskbell};

fn command(data: &Path, more: &[&str]) -> Command {
    let mut command = taskbell();
    command.args(["log", "upgrade", "--data"]).arg(data).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(data: &Path, more: &[&str]) -> Output {
    command(data, more).output().unwrap()
}

#[track_caller]
fn fails(output: &Output, exit: i32, reason: &str) {
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(exit) && sentence.contains(reason), "{:?}: {sentence}", output.status);
}

#[tokio::test]
async fn the_outcome_is_a_sentence_and_an_exit_code() {
    let old = OldLog::with(20);
    let done = run(old.path(), &[]);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8(done.stdout).unwrap();
    let kept = old.path().join("log.db.format1");
    assert!(text.contains("holds the same 20 events in "), "{text}");
    assert!(text.contains(&format!("position 20  hash {}", old.hash)), "{text}");
    assert!(text.contains(&format!("the old file is {}", kept.display())), "{text}");
    let progress = String::from_utf8(done.stderr).unwrap();
    assert_eq!(progress, "copied 20 of 20 events\nverified 20 of 20 events\n");
    let again = run(old.path(), &[]);
    let text = String::from_utf8(again.stdout).unwrap();
    assert!(again.status.success() && text.starts_with("nothing to do"), "{text}");
    old.is_in(old.path()).await;

    let nothing = tempfile::tempdir().unwrap();
    fails(&run(nothing.path(), &[]), 2, "the folder contains no log");
    let newer = OldLog::with(1);
    database(newer.path()).execute_batch("UPDATE log SET format = 3").unwrap();
    fails(&run(newer.path(), &[]), 4, "newer");
    let running = support::Server::start();
    fails(&run(&running.data(), &[]), 4, "another process uses");
}

#[tokio::test]
async fn the_outcome_can_be_json() {
    let old = OldLog::with(20);
    let done: Value = serde_json::from_slice(&run(old.path(), &["--json"]).stdout).unwrap();
    assert_eq!((&done["upgraded"], &done["events"]), (&true.into(), &20.into()));
    assert_eq!(done["hash"], old.hash.to_string());
    let old_file = old.path().join("log.db.format1");
    assert_eq!(done["bytes_after"], old.path().join("log.db").metadata().unwrap().len());
    assert_eq!(
        (&done["bytes_before"], &done["old_file"]),
        (&old_file.metadata().unwrap().len().into(), &old_file.to_str().into())
    );
    let again: Value = serde_json::from_slice(&run(old.path(), &["--json"]).stdout).unwrap();
    assert_eq!(again, serde_json::json!({"upgraded": false}));
}

#[tokio::test]
async fn a_server_refuses_format_1_and_names_the_command() {
    let old = OldLog::with(5);
    let mut serve = taskbell();
    serve.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(old.path()).stdin(Stdio::null());
    let refused = serve.output().unwrap();
    fails(&refused, 1, &format!("taskbell log upgrade --data {}", old.path().display()));
    assert!(run(old.path(), &[]).status.success());
    old.is_in(old.path()).await;
}

#[tokio::test]
async fn a_killed_command_is_run_again() {
    let old = OldLog::with(12_000);
    let mut killed = command(old.path(), &[]).spawn().unwrap();
    let mut progress = BufReader::new(killed.stderr.take().unwrap()).lines().map(Result::unwrap);
    let seen = progress.find(|line| line == "copied 10,000 of 12,000 events");
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(seen.is_some());
    assert!(run(old.path(), &[]).status.success());
    old.is_in(old.path()).await;
}
