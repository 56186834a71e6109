//! Tests of `serve --log-listen`: the official client of the database reads the log of a running server.

use std::net::TcpListener;
use std::time::Duration;

use eventstore::{Client, ReadAllOptions, SubscribeToAllOptions, SubscriptionEvent, SubscriptionFilter};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::support::{Server, TEST_TIMEOUT, taskbell};

mod access;
mod hostile;
mod raw;

/// The flags of a server that serves its log.
const LOG: [&str; 2] = ["--log-listen", "127.0.0.1:0"];

/// The address in the line that says where the log is served.
fn log_url(server: &Server) -> String {
    let stderr = server.stderr();
    let line = stderr.lines().find(|line| line.contains("the log is served read-only on")).expect("a line");
    line.split_whitespace().find(|word| word.starts_with("esdb://")).expect("its address").to_owned()
}

/// The address and port of the log.
fn log_address(server: &Server) -> String {
    log_url(server).split(['/', '?']).nth(2).expect("an address").to_owned()
}

fn client(url: &str) -> Client {
    Client::new(format!("{url}&discoveryInterval=10").parse().unwrap()).unwrap()
}

/// A client with the token of this subject as its password.
fn client_of(server: &Server, subject: &str, token: &str) -> Client {
    client(&log_url(server).replacen("esdb://", &format!("esdb://{subject}:{token}@"), 1))
}

/// The tokens of a server that requires authentication.
struct Tokens {
    admin: String,
    auditor: String,
    user: String,
}

fn admin(server: &Server, tokens: &Tokens) -> Client {
    client_of(server, "adam", &tokens.admin)
}

/// A server that requires authentication and serves its log.
fn server_with_tokens(args: &[&str]) -> (Server, Tokens) {
    let folder = tempfile::tempdir().unwrap();
    let create = |role: &str, subject: &str| {
        let mut command = taskbell();
        command.args(["token", "create", "--role", role, "--subject", subject, "--data"]);
        let output = command.arg(folder.path().join("data")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let tokens =
        Tokens { admin: create("admin", "adam"), auditor: create("auditor", "aida"), user: create("user", "una") };
    let settings = [("TASKBELL_AUTH", "required")];
    (Server::on_prepared_data(folder, &settings, LOG.into_iter().chain(args.iter().copied())), tokens)
}

/// The titles of the tasks that a subscription reports.
struct Titles(tokio::sync::mpsc::UnboundedReceiver<String>);

impl Titles {
    /// The next title, or `caught up`; `None` after the end of the subscription.
    async fn next_or_caught_up(&mut self) -> Option<String> {
        tokio::time::timeout(TEST_TIMEOUT, self.0.recv()).await.expect("a message in time")
    }

    /// The next title; `None` after the end of the subscription.
    async fn next(&mut self) -> Option<String> {
        loop {
            match self.next_or_caught_up().await {
                Some(text) if text == CAUGHT_UP => {}
                next => return next,
            }
        }
    }
}

const CAUGHT_UP: &str = "caught up";

/// Follows the tasks on a thread of its own, because the subscriptions of the client can block their thread.
fn follow(client: Client) -> Titles {
    let (found, titles) = tokio::sync::mpsc::unbounded_channel();
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
                    SubscriptionEvent::CaughtUp => CAUGHT_UP.to_owned(),
                    _ => continue,
                };
                if found.send(title).is_err() {
                    return;
                }
            }
        });
    });
    Titles(titles)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_read_and_follow_the_log_of_a_server_and_are_cut_off_at_its_end() {
    let mut server = Server::with(LOG);
    let task = server.submit(&json!({"kind": "report", "title": "one"})).await;
    let client = client(&log_url(&server));
    let mut all = client.read_all(&ReadAllOptions::default()).await.unwrap();
    let first = all.next().await.unwrap().unwrap().event.unwrap();
    assert_eq!((first.stream_id.as_str(), first.event_type.as_str()), (format!("task-{task}").as_str(), "Created"));
    let mut titles = follow(client);
    assert_eq!(titles.next_or_caught_up().await.as_deref(), Some("one"));
    assert_eq!(titles.next_or_caught_up().await.as_deref(), Some(CAUGHT_UP));
    server.submit(&json!({"kind": "report", "title": "two"})).await;
    assert_eq!(titles.next().await.as_deref(), Some("two"));
    assert!(server.stop().success());
    assert_eq!(titles.next().await, None);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_served_again_after_a_time_in_which_the_process_could_open_no_file() {
    let server = Server::with(LOG);
    let task = server.submit(&json!({"kind": "report"})).await;
    let url = log_url(&server);
    let addr = log_address(&server);
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let limit = |current| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = rustix::process::Rlimit { current: Some(current), maximum: limit.maximum };
        rustix::process::prlimit(pid, rustix::process::Resource::Nofile, limit).unwrap()
    };
    let before = limit(3);
    // The system accepts it, and the process can't.
    let mut refused = tokio::net::TcpStream::connect(&addr).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(2), refused.read(&mut [0])).await;
    limit(before.current.unwrap_or(1024));
    assert!(ended.is_err(), "the listener has ended: {ended:?}");
    let mut all = client(&url).read_all(&ReadAllOptions::default()).await.unwrap();
    let first = tokio::time::timeout(TEST_TIMEOUT, all.next()).await.unwrap().unwrap().unwrap().event.unwrap();
    assert_eq!(first.stream_id, format!("task-{task}"));
}
