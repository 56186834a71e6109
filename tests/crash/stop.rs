//! A server that receives SIGTERM, and a second server with the same data folder.

use std::process::Stdio;
use std::time::{Duration, Instant};

use super::load::{Clients, Content, assert_ends, assert_views, verify_log};
use crate::push::fold::Fold;
use crate::push::load::wait_until_idle;
use crate::support::{Server, signal, taskbell};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_ends_the_server_within_seconds_and_the_log_is_complete() {
    let content = Content::new(9, 40_000);
    let mut server = Server::with_content(content.root(), Some(3_000_000));
    let clients = Clients::new(7);
    let (url, pid) = (server.url(), server.pid());
    clients.run(&url, &content, 3, 60, async { signal(pid, "TERM") }).await;
    let begun = Instant::now();
    let status = server.stop();
    println!("it took {} ms", begun.elapsed().as_millis());
    assert!(status.success(), "{status}\n{}", server.stderr());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    server.restart();
    verify_log(&server, &clients).await;
    wait_until_idle(&server).await;
    let fold = verify_log(&server, &clients).await;
    assert_views(&server, &fold).await;
    assert_ends(&fold, &content);
}

#[tokio::test]
async fn a_second_server_on_the_same_data_says_why_it_does_not_start() {
    let server = Server::start();
    let mut second = taskbell();
    second.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(server.data()).current_dir(server.data());
    let output = second.stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("data") && !stderr.contains("panicked"), "{stderr}");
    println!("{stderr}");
    assert_eq!(server.get("/v1/counters").await.status, 200, "the first server still answers");
}

#[tokio::test]
async fn a_server_that_is_stopping_starts_no_attempt_and_records_those_that_end() {
    let content = Content::new(2, 20_000);
    let mut server = Server::with_content(content.root(), Some(400_000));
    let mut first = String::new();
    for n in 0..40 {
        let id = server.submit(&content.copy_request(&format!("{n}"))).await;
        if n == 0 {
            first = id;
        }
    }
    server.task_at_end(&first).await;
    let head_before = Fold::of(&server.get("/v1/log").await.text, "local").head();
    assert!(server.stop().success());
    server.restart();
    let fold = Fold::of(&server.get("/v1/log").await.text, "local");
    let released = fold.events.iter().filter(|event| event["type"] == "Released").count();
    println!("{} events after SIGTERM, {released} of them Released", fold.head() - head_before);
    assert!(released <= 4, "at most one for each slot: {released}");
    let cut_off = fold.events.iter().filter(|event| event["data"]["error"]["code"] == "server_restarted").count();
    assert_eq!(cut_off, 0, "running attempts have time to end, and their ends are recorded");
}
