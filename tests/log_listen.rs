//! Tests of `serve --log-listen`: the official client of the database reads the log of a running server.

use std::net::TcpListener;

use eventstore::{Client, ReadAllOptions, SubscribeToAllOptions, SubscriptionEvent, SubscriptionFilter};
use serde_json::json;

use crate::support::{Server, TEST_TIMEOUT, taskbell};

/// The address in the line that says where the log is served.
fn log_url(server: &Server) -> String {
    let stderr = server.stderr();
    let line = stderr.lines().find(|line| line.contains("the log is served read-only on")).expect("a line");
    line.split_whitespace().find(|word| word.starts_with("esdb://")).expect("its address").to_owned()
}

fn client(url: &str) -> Client {
    Client::new(format!("{url}&discoveryInterval=10").parse().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_read_and_follow_the_log_of_a_server_and_are_cut_off_at_its_end() {
    let mut server = Server::with(["--log-listen", "127.0.0.1:0"]);
    let task = server.submit(&json!({"kind": "report", "title": "one"})).await;
    let client = client(&log_url(&server));
    let mut all = client.read_all(&ReadAllOptions::default()).await.unwrap();
    let first = all.next().await.unwrap().unwrap().event.unwrap();
    assert_eq!((first.stream_id.as_str(), first.event_type.as_str()), (format!("task-{task}").as_str(), "Created"));
    let (found, mut titles) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let filter = SubscriptionFilter::on_stream_name().add_prefix("task-");
            let mut following = client.subscribe_to_all(&SubscribeToAllOptions::default().filter(filter)).await;
            while let Ok(message) = following.next_subscription_event().await {
                let title = match message {
                    SubscriptionEvent::EventAppeared(event) => {
                        let data = event.get_original_event().as_json::<serde_json::Value>().unwrap();
                        data["title"].as_str().unwrap_or_default().to_owned()
                    }
                    SubscriptionEvent::CaughtUp => "caught up".to_owned(),
                    _ => continue,
                };
                if found.send(title).is_err() {
                    return;
                }
            }
        });
    });
    let mut next = async || tokio::time::timeout(TEST_TIMEOUT, titles.recv()).await.unwrap();
    assert_eq!((next().await.as_deref(), next().await.as_deref()), (Some("one"), Some("caught up")));
    server.submit(&json!({"kind": "report", "title": "two"})).await;
    assert_eq!(next().await.as_deref(), Some("two"));
    assert!(server.stop().success());
    assert_eq!(next().await, None);
}

#[test]
fn an_address_that_is_taken_ends_the_start_and_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let mut command = taskbell();
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-listen", &address, "--data"]).arg(dir.path());
    let output = command.output().unwrap();
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{sentence}");
    assert!(sentence.contains(&format!("error: can't serve the log: {address}: ")), "{sentence}");
}

#[test]
fn an_address_outside_of_this_machine_is_refused() {
    let output = taskbell().args(["serve", "--log-listen", "0.0.0.0:2113"]).output().unwrap();
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("log_listen: 0.0.0.0:2113") && sentence.contains("loopback"), "{sentence}");
}
