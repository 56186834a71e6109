//! Checks whether a database is suitable for a cluster's log. The checks of the database's own rules come first (`appends`,
//! `log`, `streams`), then the checks of every store (`store::conformance`). Each check writes only streams whose names
//! begin with its own scratch prefix.
//!
//! The checks can't remove the events that they have written from the database's own log. At the end they soft-delete their
//! streams. A later scavenge of the database then removes all but the last event of each stream.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::{Duration, Instant};

use eventstore::{Client, CurrentRevision, Position, StreamPosition};
use tokio::sync::oneshot;

use super::client::error_message;
use super::loop_breaker::with_loop_breaker;
use super::supervise::{check_reachable, panic_text, runtime};
use super::url::StoreUrl;
use crate::store::conformance::{CHECKS, Check, CheckResult};
use crate::store::{EventStore, new_id};

mod appends;
mod clean;
mod database;
mod log;
mod streams;

pub use clean::LeftoverStreams;
use database::RuleContext;

/// How long one check may take.
const CHECK_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a new log may take until it is healthy.
const READY_TIMEOUT: Duration = Duration::from_secs(15);

type CheckFuture = Pin<Box<dyn Future<Output = CheckResult>>>;

/// One rule of the database, with the function that checks it. A rule of a store is a `Check`.
#[derive(Clone, Copy)]
pub struct Rule {
    /// The operation of the database to which the rule applies.
    pub operation: &'static str,
    /// The rule as a sentence, with `_` between its words.
    pub name: &'static str,
    run: fn(RuleContext) -> CheckFuture,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! rules {
    ($operation:literal: $($module:ident::$name:ident)*) => {
        &[$(Rule { operation: $operation, name: stringify!($name), run: |context| Box::pin($module::$name(context)) }),*]
    };
}

/// The rules that a database must follow so that it can hold a log.
pub const RULES: [&[Rule]; 3] = [
    rules! { "database append":
        appends::a_repeated_append_is_written_once_and_gets_its_first_response_again
        appends::an_append_that_is_repeated_after_later_ones_gets_its_first_response_again
        appends::other_events_at_an_old_revision_are_refused_and_the_error_names_the_last_revision
        appends::a_repeated_append_whose_later_events_differ_writes_nothing
        appends::the_bytes_of_an_event_are_kept
        appends::an_append_of_900_kilobytes_is_written
        appends::an_append_of_2_megabytes_is_written_or_refused_because_of_its_size
    },
    rules! { "database log":
        log::a_subscription_is_confirmed_first_and_reports_when_it_has_caught_up
        log::two_clients_receive_all_events_in_the_order_of_their_commits
        log::a_subscription_continues_after_the_event_where_the_last_one_ended
        log::a_subscription_continues_after_a_checkpoint
        log::an_event_is_read_at_its_own_position
    },
    rules! { "database stream":
        streams::a_read_of_a_missing_stream_reports_that_it_is_missing
        streams::a_filtered_subscription_receives_the_metadata_of_a_truncated_stream
        streams::a_stream_with_a_maximum_count_returns_only_its_last_events
    },
];

/// The result of one check.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The operation that was checked.
    pub operation: &'static str,
    /// The rule that was checked, as a sentence.
    pub expected: String,
    /// What the check has observed.
    pub observed: CheckResult,
    /// How long the check took.
    pub took: Duration,
}

impl Finding {
    async fn run(operation: &'static str, name: &str, check: impl Future<Output = CheckResult>) -> Self {
        let started_at = Instant::now();
        let observed = tokio::time::timeout(CHECK_TIMEOUT, check).await;
        let observed = observed.unwrap_or_else(|_| Err(format!("did not end within {} s", CHECK_TIMEOUT.as_secs())));
        Self { operation, expected: name.replace('_', " "), observed, took: started_at.elapsed() }
    }
}

/// Checks the database at this address. Calls `report` after each check. Returns the streams that the checks have written.
///
/// # Errors
/// Why the database can't be reached. Then nothing was checked.
pub async fn check(url: &StoreUrl, report: &mut (dyn FnMut(Finding) + Send)) -> Result<LeftoverStreams, String> {
    check_reachable(&url.settings).await?;
    let scratch = scratch_prefix(url);
    let own_url = url.clone();
    let end = run_on_own_thread(move || async move { clean::last_position(&new_client(&own_url)?).await }).await?;
    let url = &url.clone().read_after(end);
    for (rule, number) in RULES.concat().into_iter().zip(1..) {
        report(check_rule(url, rule, format!("{scratch}r{number}")).await);
    }
    let mut is_usable = true;
    for (check, number) in CHECKS.concat().into_iter().zip(1..) {
        let log = url.with_prefix(format!("{scratch}n{number}"));
        let checking = check_store(&log, check, &mut is_usable);
        report(Finding::run(check.operation, check.name, checking).await);
    }
    Ok(delete_streams(url, scratch).await)
}

/// The scratch prefix `<prefix>check<random>`. It is short enough that the number of a check can be appended.
fn scratch_prefix(url: &StoreUrl) -> String {
    let random = new_id().simple().to_string();
    let (prefix, random) = (url.prefix(), random.get(24..).unwrap_or_default());
    format!("{}check{random}", prefix.get(..40).unwrap_or(prefix))
}

/// Checks one rule of the database. The names of its streams begin with `prefix`.
pub async fn check_rule(url: &StoreUrl, rule: Rule, prefix: String) -> Finding {
    let url = url.clone();
    let checking = run_on_own_thread(move || async move {
        let context = RuleContext {
            client: new_client(&url)?,
            second_client: new_client(&url)?,
            start: start_position(&url),
            prefix,
        };
        (rule.run)(context).await
    });
    Finding::run(rule.operation, rule.name, checking).await
}

/// Checks one rule of the store's contract on a new log. If the log of an earlier check was not usable, nothing is checked.
async fn check_store(url: &StoreUrl, check: Check, is_usable: &mut bool) -> CheckResult {
    if !*is_usable {
        return Err("not checked: the log of an earlier check was not usable".to_owned());
    }
    let store = EventStore::connect(url.clone()).map_err(|error| error.to_string())?;
    let ready = tokio::time::timeout(READY_TIMEOUT, store.wait_for_health(true)).await;
    if ready.is_err() {
        *is_usable = false;
        let why = store.health().err().unwrap_or_default();
        return Err(format!("the log did not become usable within {} s: {why}", READY_TIMEOUT.as_secs()));
    }
    check.run(store).await
}

/// Soft-deletes the streams that the checks have written.
async fn delete_streams(url: &StoreUrl, scratch: String) -> LeftoverStreams {
    let (url, prefix) = (url.clone(), scratch.clone());
    let cleaned = run_on_own_thread(move || async move {
        clean::delete_streams(&new_client(&url)?, start_position(&url), &prefix).await
    })
    .await;
    cleaned.unwrap_or_else(|why| LeftoverStreams {
        prefix: scratch,
        streams: Vec::new(),
        events: 0,
        failure: Some(why),
    })
}

/// The position after which subscriptions begin.
fn start_position(url: &StoreUrl) -> StreamPosition<Position> {
    url.read_after.map_or(StreamPosition::Start, |position| StreamPosition::Position(position.into()))
}

fn new_client(url: &StoreUrl) -> Result<Client, String> {
    Client::new(url.settings.clone()).map_err(|error| error.to_string())
}

/// Runs the work on a new thread with a new runtime, because a client may block its thread for ever.
async fn run_on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
    T: Send + 'static,
{
    let (result_sender, result_receiver) = oneshot::channel();
    let body = move || {
        let runtime = runtime().map_err(|error| format!("no runtime: {error}"))?;
        let result = runtime.block_on(work());
        runtime.shutdown_background();
        result
    };
    let thread = move || {
        let result = catch_unwind(AssertUnwindSafe(|| with_loop_breaker(body)));
        // An error means that the caller's time limit has passed and it has dropped its future.
        let _ = result_sender.send(result.unwrap_or_else(|panic| Err(panic_text(&*panic))));
    };
    let started = std::thread::Builder::new().name("taskbell-check".to_owned()).spawn(thread);
    started.map_err(|error| format!("no thread: {error}"))?;
    result_receiver.await.unwrap_or_else(|_| Err("the thread of the check has ended".to_owned()))
}

/// The text of a database's error, for a [`CheckResult`].
fn error_text(error: &eventstore::Error) -> String {
    match error {
        eventstore::Error::WrongExpectedVersion { current: CurrentRevision::Current(last), .. } => {
            format!("refused, because the stream ends at revision {last}")
        }
        error => error_message(error),
    }
}
