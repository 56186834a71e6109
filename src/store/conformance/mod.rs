//! The contract of a store as checks that can be run against any of them: the tests run them on all three variants, and
//! `taskbell store check` on the cluster that an operator names. No check panics; each returns what it has seen.
//!
//! `appends`, `reads` and `subscriptions` hold the checks, `sample` the events that they write. What a cluster's
//! database has to do besides is in `cluster/check`.

use std::fmt;
use std::pin::Pin;

use super::EventStore;

mod appends;
mod reads;
pub mod sample;
mod subscriptions;

/// What was seen: `Ok` where it is what is needed.
pub type Outcome = Result<String, String>;

type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// One rule of a store.
#[derive(Clone, Copy)]
pub struct Check {
    /// Which operation it is about.
    pub operation: &'static str,
    /// The rule as a sentence, with `_` between its words.
    pub name: &'static str,
    run: fn(EventStore) -> Running,
}

impl Check {
    /// Checks the rule on a new log, in which nothing else writes.
    ///
    /// # Errors
    /// What was seen instead.
    pub async fn run(&self, store: EventStore) -> Outcome {
        (self.run)(store).await
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A check for each function of a module.
macro_rules! checks {
    ($operation:literal: $($module:ident::$name:ident)*) => {
        &[$($crate::store::conformance::Check {
            operation: $operation,
            name: stringify!($name),
            run: |store| Box::pin($module::$name(store)),
        }),*]
    };
}

/// Ends a check that has seen something else than it needs.
macro_rules! ensure {
    ($holds:expr, $($seen:tt)+) => {
        if !$holds {
            return Err(format!($($seen)+));
        }
    };
}

/// Ends a check in which this is not what is needed.
macro_rules! ensure_eq {
    ($what:literal, $seen:expr, $needed:expr) => {{
        let (seen, needed) = (&$seen, &$needed);
        if seen != needed {
            return Err(format!(concat!($what, ": {:?} instead of {:?}"), seen, needed));
        }
    }};
}

pub(in crate::store) use {ensure, ensure_eq};

/// Every rule that holds for all stores.
pub const CHECKS: [&[Check]; 3] = [
    checks! { "append":
        appends::an_append_with_a_wrong_expected_revision_writes_nothing
        appends::an_append_of_no_events_is_refused
        appends::an_event_that_could_not_be_read_back_is_refused
        appends::the_events_of_an_append_are_written_together
        appends::positions_have_no_gaps_when_appends_are_refused
        appends::of_concurrent_writers_at_one_revision_one_succeeds
        appends::each_of_many_appends_gets_its_own_answer
        appends::an_append_can_follow_another_of_the_same_write
    },
    checks! { "read":
        reads::a_new_log_is_empty_and_healthy
        reads::an_event_is_read_back_as_it_was_written
        reads::the_log_can_be_read_in_pages
        reads::a_stream_can_be_read_from_any_revision
        reads::the_chain_of_hashes_verifies
    },
    checks! { "subscribe":
        subscriptions::a_subscriber_gets_an_event_as_a_later_reader_gets_it
        subscriptions::the_head_moves_before_the_answer
        subscriptions::a_subscription_gives_old_events_and_then_new_ones
        subscriptions::a_subscription_gives_each_event_once_while_others_write
        subscriptions::a_wait_for_the_next_events_can_be_dropped_without_losing_any
    },
];
