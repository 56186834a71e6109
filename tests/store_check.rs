//! Tests of `store check`: the checks against the stand-in database, and the command itself.

use std::process::{Output, Stdio};

use serde_json::Value;
use taskbell::StoreUrl;
use taskbell::internal::store_check::{RULES, check_rule};
use taskbell::store::EventStore;
use taskbell::store::conformance::CHECKS;
use taskbell::wire;
use taskbell::wire::stand_in::Database;

use crate::store_contract::ANY_PORT;
use crate::support::taskbell;

macro_rules! every_rule {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            holds(stringify!($name)).await;
        })*
    };
}

every_rule! {
    a_repeated_append_is_written_once_and_gets_its_first_response_again
    an_append_that_is_repeated_after_later_ones_gets_its_first_response_again
    other_events_at_an_old_revision_are_refused_and_the_error_names_the_last_revision
    a_repeated_append_whose_later_events_differ_writes_nothing
    the_bytes_of_an_event_are_kept
    an_append_of_900_kilobytes_is_written
    an_append_of_2_megabytes_is_written_or_refused_because_of_its_size
    a_subscription_is_confirmed_first_and_reports_when_it_has_caught_up
    two_clients_receive_all_events_in_the_order_of_their_commits
    a_subscription_continues_after_the_event_where_the_last_one_ended
    a_subscription_continues_after_a_checkpoint
    an_event_is_read_at_its_own_position
    a_read_of_a_missing_stream_reports_that_it_is_missing
    a_filtered_subscription_receives_the_metadata_of_a_truncated_stream
    a_stream_with_a_maximum_count_returns_only_its_last_events
}

fn url(addr: std::net::SocketAddr) -> StoreUrl {
    format!("esdb://{addr}?tls=false").parse().unwrap()
}

async fn holds(name: &str) {
    let server = Database::new().serve(ANY_PORT).await.unwrap();
    let rule = RULES.concat().into_iter().find(|rule| rule.name == name).expect("a rule of this name");
    let finding = check_rule(&url(server.addr()), rule, "rule".to_owned()).await;
    assert!(finding.observed.is_ok(), "{finding:?}");
}

#[test]
fn every_rule_is_a_test_here() {
    assert_eq!(RULES.concat().iter().map(|rule| rule.name).collect::<Vec<_>>(), NAMES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_ends_subscriptions_does_not_hang_the_check() {
    let database = Database::new();
    let server = database.serve(ANY_PORT).await.unwrap();
    let rule = RULES.concat().into_iter().find(|rule| rule.name.starts_with("two_clients")).unwrap();
    database.hold_responses(true);
    let to = url(server.addr());
    let checking = tokio::spawn(async move { check_rule(&to, rule, "rule".to_owned()).await });
    // Its subscription runs, and its first append waits.
    database.wait_for_delayed_requests(1).await;
    database.end_subscriptions();
    database.hold_responses(false);
    let finding = checking.await.unwrap();
    assert_eq!(finding.observed, Err("the database ended the subscription".to_owned()));
}

async fn run(to: std::net::SocketAddr, more: &[&str]) -> Output {
    let mut command = taskbell();
    command.args(["store", "check", "--store", &format!("esdb://{to}?tls=false&prefix=shop")]).args(more);
    command.stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_refused_without_its_password() {
    let mut command = taskbell();
    command.args(["store", "check"]).env("TASKBELL_STORE", "esdb://admin:s3cret@db:port?tls=false");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let sentence = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{sentence}");
    assert!(sentence.contains("--store: ") && !sentence.contains("s3cret"), "{sentence}");
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_prints_each_check_and_leaves_only_deleted_streams() {
    let database = Database::new();
    let server = database.serve(ANY_PORT).await.unwrap();
    // What was there before is neither read nor deleted.
    let others = crate::store_contract::ready(crate::store_contract::connect(server.addr(), "shopcheck")).await;
    let before = database.all().len();
    let output = run(server.addr(), &[]).await;
    let text = stdout(&output);
    drop(others);
    assert!(output.status.success(), "{text}");
    let checks = RULES.concat().len() + CHECKS.concat().len();
    assert!(text.contains(&format!("{checks} checks, all hold")), "{text}");
    for expected in ["a repeated append is written once", "the chain of hashes verifies", "$maxCount 2"] {
        assert!(text.contains(expected), "no {expected:?} in {text}");
    }
    for stream in database.all()[before..].iter().map(|event| &event.stream).filter(|name| !name.starts_with("$$")) {
        assert!(stream.starts_with("shopcheck"), "{stream}");
        let metadata = database.stream(&format!("$${stream}"));
        let last = metadata.last().unwrap_or_else(|| panic!("{stream} is not deleted"));
        assert!(String::from_utf8_lossy(&last.data).contains("$tb"), "{stream} is not deleted");
    }
    assert!(database.stream("$$shopcheck_aux.epoch").is_empty());
    let events = database.all().iter().filter(|event| !event.stream.starts_with("$$")).count();
    assert!(events < 5000, "{events} events");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_fails_where_a_rule_does_not_hold() {
    // Taskbell's own log takes no writes by this protocol.
    let server = wire::serve(EventStore::memory(), ANY_PORT, wire::ServeOptions::default()).await.unwrap();
    let output = run(server.addr(), &["--json"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["holds"], false);
    let checks = answer["checks"].as_array().unwrap();
    let holding: Vec<_> = checks.iter().filter(|check| check["holds"] == true).map(|check| &check["needed"]).collect();
    assert_eq!(holding, ["a read of a missing stream reports that it is missing"]);
    assert_eq!(answer["left"]["streams"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_says_that_nothing_answers() {
    let free = std::net::TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let output = run(free, &[]).await;
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&free.to_string()), "{output:?}");
}
