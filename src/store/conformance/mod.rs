//! The contract of a store as checks that can run on any store. The tests run them on all three variants of [`EventStore`];
//! the command `taskbell store check` runs them on the cluster that an operator names. No check panics; each returns what it
//! has observed.
//!
//! `appends`, `reads` and `subscriptions` hold the checks, `sample` the events that they write. `cluster/check` has further
//! checks for the database of a cluster.

use std::fmt;
use std::pin::Pin;

use super::EventStore;

mod appends;
mod reads;
pub mod sample;
mod subscriptions;

/// What a check has observed, as text: `Ok` if the rule holds, `Err` if it doesn't.
pub type CheckResult = Result<String, String>;

type CheckFuture = Pin<Box<dyn Future<Output = CheckResult> + Send>>;

/// One rule of a store, with the function that checks it.
#[derive(Clone, Copy)]
pub struct Check {
    /// The operation of the store to which the rule applies.
    pub operation: &'static str,
    /// The rule as a sentence, with `_` between its words.
    pub name: &'static str,
    run: fn(EventStore) -> CheckFuture,
}

impl Check {
    /// Checks the rule on a new log. Nothing else may write to that log.
    ///
    /// # Errors
    /// What the check has observed, if the rule doesn't hold.
    pub async fn run(&self, store: EventStore) -> CheckResult {
        (self.run)(store).await
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Makes a [`Check`] from each named function; the function's name is the rule.
macro_rules! checks {
    ($operation:literal: $($module:ident::$name:ident)*) => {
        &[$($crate::store::conformance::Check {
            operation: $operation,
            name: stringify!($name),
            run: |store| Box::pin($module::$name(store)),
        }),*]
    };
}

/// Ends a check with this text as its error if the condition is false.
macro_rules! ensure {
    ($holds:expr, $($observed:tt)+) => {
        if !$holds {
            return Err(format!($($observed)+));
        }
    };
}

/// Ends a check with an error if the observed value differs from the expected one.
macro_rules! ensure_eq {
    ($what:literal, $observed:expr, $expected:expr) => {{
        let (observed, expected) = (&$observed, &$expected);
        if observed != expected {
            return Err(format!(concat!($what, ": {:?} instead of {:?}"), observed, expected));
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
        appends::each_of_many_appends_gets_its_own_result
        appends::an_append_may_expect_the_revision_that_an_append_before_it_in_the_same_call_writes
    },
    checks! { "read":
        reads::a_new_log_is_empty_and_healthy
        reads::an_event_is_read_back_as_it_was_written
        reads::characters_that_end_a_line_are_stored_as_escapes
        reads::the_log_can_be_read_in_pages
        reads::a_stream_can_be_read_from_any_revision
        reads::the_chain_of_hashes_verifies
    },
    checks! { "subscribe":
        subscriptions::a_subscription_and_a_later_read_return_the_same_event
        subscriptions::an_acknowledged_append_is_included_in_the_head
        subscriptions::a_subscription_gives_old_events_and_then_new_ones
        subscriptions::a_subscription_gives_each_event_once_while_others_write
        subscriptions::a_wait_for_the_next_events_can_be_dropped_without_losing_any
    },
];
