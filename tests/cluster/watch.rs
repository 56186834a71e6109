//! The output of the command line while a server can't reach its log.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::support::{TEST_TIMEOUT, taskbell};

/// Waits for a line with this text.
fn line_with(lines: &Receiver<String>, text: &str) {
    let mut seen = Vec::new();
    while let Ok(line) = lines.recv_timeout(TEST_TIMEOUT) {
        if line.contains(text) {
            return;
        }
        seen.push(line);
    }
    panic!("no line with {text:?} in {seen:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_says_when_the_server_has_lost_its_log_and_when_it_has_it_again() {
    let mut cluster = Cluster::start().await;
    let [server] = cluster.servers().await;
    server.submit(&json!({"kind": "report"})).await;
    let mut command = taskbell();
    command
        .args(["--server", &server.url(), "watch"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut watch = command.spawn().unwrap();
    let (sender, lines) = channel();
    let (out, err) = (watch.stdout.take().unwrap(), watch.stderr.take().unwrap());
    let first = sender.clone();
    std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(first.send(line)));
    });
    std::thread::spawn(move || {
        BufReader::new(err).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    tokio::task::block_in_place(|| line_with(&lines, "1 queued"));
    cluster.stop().await;
    tokio::task::block_in_place(|| line_with(&lines, "stale since "));
    cluster.restart().await;
    tokio::task::block_in_place(|| line_with(&lines, "the server can reach its log again"));
    watch.kill().unwrap();
    watch.wait().unwrap();
}
