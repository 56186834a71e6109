//! The contract of a store, for each of the stores: in memory, in a folder and in a cluster.

use taskbell::store::conformance::{CHECKS, Check};

use super::*;

macro_rules! every_store {
    ($($name:ident)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::run_check(stringify!($name), taskbell::store::EventStore::memory()).await;
            })*
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::run_check(stringify!($name), taskbell::store::EventStore::open(dir.path()).unwrap()).await;
            })*
        }

        #[cfg(feature = "eventstore")]
        mod cluster {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let fixture = crate::store_contract::cluster::Fixture::start().await;
                super::run_check(stringify!($name), fixture.store().await).await;
            })*
        }
    };
}

every_store! {
    an_append_with_a_wrong_expected_revision_writes_nothing
    an_append_of_no_events_is_refused
    an_event_that_could_not_be_read_back_is_refused
    the_events_of_an_append_are_written_together
    positions_have_no_gaps_when_appends_are_refused
    of_concurrent_writers_at_one_revision_one_succeeds
    each_of_many_appends_gets_its_own_result
    an_append_may_expect_the_revision_that_an_append_before_it_in_the_same_call_writes
    a_new_log_is_empty_and_healthy
    an_event_is_read_back_as_it_was_written
    characters_that_end_a_line_are_stored_as_escapes
    the_log_can_be_read_in_pages
    a_stream_can_be_read_from_any_revision
    the_chain_of_hashes_verifies
    a_subscription_and_a_later_read_return_the_same_event
    an_acknowledged_append_is_included_in_the_head
    a_subscription_gives_old_events_and_then_new_ones
    a_subscription_gives_each_event_once_while_others_write
    a_wait_for_the_next_events_can_be_dropped_without_losing_any
}

fn check(name: &str) -> Check {
    CHECKS.concat().into_iter().find(|check| check.name == name).expect("a check of this name")
}

/// Runs the check with this name and panics if it fails.
async fn run_check(name: &str, store: EventStore) {
    if let Err(seen) = check(name).run(store).await {
        panic!("{name}: {seen}");
    }
}

#[test]
fn every_check_is_a_test_here() {
    assert_eq!(CHECKS.concat().iter().map(|check| check.name).collect::<Vec<_>>(), NAMES);
}

#[tokio::test]
async fn a_check_says_what_it_has_seen_where_a_rule_does_not_hold() {
    let store = EventStore::memory();
    store.append(first(&stream(), "not a new log")).await.unwrap();
    for (name, seen) in [
        ("a_new_log_is_empty_and_healthy", "head: (Position(1), "),
        ("an_append_with_a_wrong_expected_revision_writes_nothing", "events in the log: 3 instead of 2"),
        ("positions_have_no_gaps_when_appends_are_refused", "positions: [1, 2, 3"),
        ("a_wait_for_the_next_events_can_be_dropped_without_losing_any", "before there is an event: "),
    ] {
        let outcome = check(name).run(store.clone()).await.unwrap_err();
        assert!(outcome.starts_with(seen), "{name}: {outcome}");
    }
}
