//! Checks of a database that a cluster's store is to rely on: the rules of the database itself (`appends`, `log`,
//! `streams`), and then the contract that every store keeps (`store::conformance`), each on names of its own that begin
//! with a scratch prefix.
//!
//! What the checks write can't be removed from the database's own log. At the end their streams are soft-deleted, so that a
//! scavenge removes the rest.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::time::{Duration, Instant};

use eventstore::{Client, CurrentRevision, Position, StreamPosition};
use tokio::sync::oneshot;

use super::client::describe;
use super::spin::without_spinning;
use super::supervise::{panic_text, reachable, runtime};
use super::url::StoreUrl;
use crate::store::conformance::{CHECKS, Check, Outcome};
use crate::store::{EventStore, new_id};

mod appends;
mod clean;
mod database;
mod log;
mod streams;

pub use clean::Left;
use database::Database;

/// How long one check may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a new log may take to be healthy.
const READY: Duration = Duration::from_secs(15);

type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// One rule of the database.
#[derive(Clone, Copy)]
pub struct Rule {
    /// Which operation it is about.
    pub operation: &'static str,
    /// The rule as a sentence, with `_` between its words.
    pub name: &'static str,
    run: fn(Database) -> Running,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

macro_rules! rules {
    ($operation:literal: $($module:ident::$name:ident)*) => {
        &[$(Rule { operation: $operation, name: stringify!($name), run: |database| Box::pin($module::$name(database)) }),*]
    };
}

/// What a database has to do, so that a log can be kept in it.
pub const RULES: [&[Rule]; 3] = [
    rules! { "database append":
        appends::an_append_that_is_repeated_is_written_once_and_has_its_first_answer
        appends::an_append_that_is_repeated_after_later_ones_has_its_first_answer
        appends::other_events_at_an_old_revision_are_refused_with_the_last_one
        appends::a_repeated_append_whose_later_events_differ_writes_nothing
        appends::the_bytes_of_an_event_are_kept
        appends::an_append_of_900_kilobytes_is_written
        appends::an_append_of_2_megabytes_is_written_or_refused_because_of_its_size
    },
    rules! { "database log":
        log::a_subscription_is_confirmed_first_and_says_when_it_has_caught_up
        log::two_clients_receive_all_events_in_the_order_of_their_commits
        log::a_subscription_continues_after_the_event_where_the_last_one_ended
        log::a_subscription_continues_after_a_checkpoint
        log::an_event_is_read_at_its_own_position
    },
    rules! { "database stream":
        streams::a_missing_stream_is_said_to_be_missing
        streams::a_truncated_stream_is_seen_in_the_log
        streams::a_stream_with_a_maximum_shows_its_last_events
    },
];

/// What one check came to.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which operation was checked.
    pub operation: &'static str,
    /// What is needed, as a sentence.
    pub needed: String,
    /// What was seen.
    pub seen: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Finding {
    async fn of(operation: &'static str, name: &str, check: impl Future<Output = Outcome>) -> Self {
        let begun = Instant::now();
        let seen = tokio::time::timeout(PATIENCE, check).await;
        let seen = seen.unwrap_or_else(|_| Err(format!("no end in {} s", PATIENCE.as_secs())));
        Self { operation, needed: name.replace('_', " "), seen, took: begun.elapsed() }
    }
}

/// Checks the database at this address, and reports each check as soon as it has ended.
///
/// # Errors
/// Why the database can't be reached; nothing was checked.
pub async fn check(url: &StoreUrl, report: &mut (dyn FnMut(Finding) + Send)) -> Result<Left, String> {
    reachable(&url.settings).await?;
    let scratch = scratch(url);
    let to = url.clone();
    let end = apart(move || async move { clean::end(&client(&to)?).await }).await?;
    let url = &url.clone().after(end);
    for (rule, number) in RULES.concat().into_iter().zip(1..) {
        report(check_rule(url, rule, format!("{scratch}r{number}")).await);
    }
    let mut is_usable = true;
    for (check, number) in CHECKS.concat().into_iter().zip(1..) {
        let log = url.with_prefix(format!("{scratch}n{number}"));
        let checking = check_store(&log, check, &mut is_usable);
        report(Finding::of(check.operation, check.name, checking).await);
    }
    Ok(clean(url, scratch).await)
}

/// `<prefix>check<random>`, with room for the number of a check.
fn scratch(url: &StoreUrl) -> String {
    let random = new_id().simple().to_string();
    let (prefix, random) = (url.prefix(), random.get(24..).unwrap_or_default());
    format!("{}check{random}", prefix.get(..40).unwrap_or(prefix))
}

/// Checks one rule, on names that begin with `prefix`.
pub async fn check_rule(url: &StoreUrl, rule: Rule, prefix: String) -> Finding {
    let url = url.clone();
    let checking = apart(move || async move {
        let database = Database { client: client(&url)?, other: client(&url)?, start: start(&url), prefix };
        (rule.run)(database).await
    });
    Finding::of(rule.operation, rule.name, checking).await
}

/// Checks one rule of all stores on a new log. After the first log that is not usable no other is tried.
async fn check_store(url: &StoreUrl, check: Check, is_usable: &mut bool) -> Outcome {
    if !*is_usable {
        return Err("not checked: the log of an earlier check was not usable".to_owned());
    }
    let store = EventStore::connect(url.clone()).map_err(|error| error.to_string())?;
    let ready = tokio::time::timeout(READY, store.wait_for_health(true)).await;
    if ready.is_err() {
        *is_usable = false;
        let why = store.health().err().unwrap_or_default();
        return Err(format!("the log was not usable in {} s: {why}", READY.as_secs()));
    }
    check.run(store).await
}

async fn clean(url: &StoreUrl, scratch: String) -> Left {
    let (url, prefix) = (url.clone(), scratch.clone());
    let cleaned = apart(move || async move { clean::clean(&client(&url)?, start(&url), &prefix).await }).await;
    cleaned.unwrap_or_else(|why| Left { prefix: scratch, streams: Vec::new(), events: 0, failure: Some(why) })
}

/// Where subscriptions begin.
fn start(url: &StoreUrl) -> StreamPosition<Position> {
    url.start.map_or(StreamPosition::Start, |place| StreamPosition::Position(place.into()))
}

fn client(url: &StoreUrl) -> Result<Client, String> {
    Client::new(url.settings.clone()).map_err(|error| error.to_string())
}

/// Runs the work on a thread and runtime of its own: a client may block its thread for ever.
async fn apart<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T, String>
where
    F: Future<Output = Result<T, String>>,
    T: Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let body = move || {
        let runtime = runtime().map_err(|error| format!("no runtime: {error}"))?;
        let done = runtime.block_on(work());
        runtime.shutdown_background();
        done
    };
    let thread = move || {
        let done = catch_unwind(AssertUnwindSafe(|| without_spinning(body)));
        // The caller has gone where its time was over.
        let _ = answer.send(done.unwrap_or_else(|panic| Err(panic_text(&*panic))));
    };
    let started = std::thread::Builder::new().name("taskbell-check".to_owned()).spawn(thread);
    started.map_err(|error| format!("no thread: {error}"))?;
    answered.await.unwrap_or_else(|_| Err("the thread of the check has ended".to_owned()))
}

/// The database's error as what was seen.
fn said(error: &eventstore::Error) -> String {
    match error {
        eventstore::Error::WrongExpectedVersion { current: CurrentRevision::Current(last), .. } => {
            format!("refused, because the stream ends at revision {last}")
        }
        error => describe(error),
    }
}
