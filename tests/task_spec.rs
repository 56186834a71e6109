//! The rules of a task. Each test gives a history, executes a command and compares the decided events.

// The tests are shorter if the helpers take values and return the types of the event's fields.
#![allow(clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

mod cancel;
mod credentials;
mod deadlines;
mod lease;
mod limits;
mod queue;
mod schedule;
mod seen;
mod table;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{
    AttemptFailed, CancelAcknowledged, CancelEscalated, CancelLadder, CancelRequested, Completed, Created, Outcome,
    Progress, Queued, QueuedReason, Released, ReleasedReason, Retried, Rung, Started, TaskError,
};
use taskbell::task::retry::retry_at;
use taskbell::task::{Command, Event, Rejection, Status, Task, Timestamp, decide, fold};

/// Defines tests, one in each line: `name: assertion;`.
macro_rules! sentences {
    ($($name:ident: $assertion:expr;)*) => { $(#[test] fn $name() { $assertion; })* };
}
pub(crate) use sentences;

/// A legal history of a task.
pub(crate) struct Given(Vec<Event>);

/// The state before a command, and what the rules decide for the command.
pub(crate) struct Decided(Option<Task>, Result<Vec<Event>, Rejection>);

#[track_caller]
pub(crate) fn given(events: impl IntoIterator<Item = Event>) -> Given {
    let events: Vec<Event> = events.into_iter().collect();
    check_legal(None, &events);
    Given(events)
}

impl Given {
    pub(crate) fn when(self, command: Command) -> Decided {
        self.when_at(now(), command)
    }

    pub(crate) fn when_at(self, now: Timestamp, command: Command) -> Decided {
        let state = fold(None, &self.0);
        let decided = decide(state.as_ref(), &command, now);
        Decided(state, decided)
    }
}

impl Decided {
    #[track_caller]
    pub(crate) fn then(self, events: impl IntoIterator<Item = Event>) {
        let events: Vec<Event> = events.into_iter().collect();
        assert_eq!(self.1.as_ref(), Ok(&events), "the decision");
        check_legal(self.0.map(|task| task.status), &events);
    }

    #[track_caller]
    pub(crate) fn then_nothing(self) {
        self.then([]);
    }

    #[track_caller]
    pub(crate) fn rejects(self, rejection: Rejection) {
        assert_eq!(self.1, Err(rejection), "the decision");
    }
}

#[track_caller]
fn check_legal(mut status: Option<Status>, events: &[Event]) {
    for event in events {
        let after = Status::next(status, event);
        assert!(after.is_some(), "the state table has no line from {status:?} by {event:?}");
        status = after;
    }
}

/// The time of a command for which the test passes no other time.
pub(crate) fn now() -> Timestamp {
    "2026-11-22T15:04:05.000000Z".parse().unwrap()
}

pub(crate) fn after(seconds: u64) -> Timestamp {
    now().plus(Duration::from_secs(seconds))
}

pub(crate) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn work() -> Created {
    Created {
        kind: "content.distribute".into(),
        title: "Distribute spring to 5 sites".into(),
        owner: "mira".into(),
        input: json!({"source": "/srv/spring"}).into(),
        queue: "default".into(),
        priority: 0,
        run_at: None,
        max_attempts: 3,
        timeout_s: None,
        labels: [("team".to_owned(), "web".to_owned())].into(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }
}

pub(crate) fn lease(attempt: u32) -> String {
    format!("{attempt:064x}")
}

// Events.

pub(crate) fn created() -> Event {
    Event::Created(Arc::new(work()))
}

pub(crate) fn created_with(change: impl FnOnce(&mut Created)) -> Event {
    let mut new = work();
    change(&mut new);
    Event::Created(Arc::new(new))
}

pub(crate) fn became_ready(reason: QueuedReason) -> Event {
    Event::Queued(Queued { reason })
}

pub(crate) fn started(attempt: u32) -> Event {
    Event::Started(Started { attempt, worker: "w1".into(), lease_hash: lease(attempt) })
}

pub(crate) fn cancel_requested() -> Event {
    Event::CancelRequested(CancelRequested { reason: text("wrong campaign"), policy: CancelLadder::default() })
}

pub(crate) fn acknowledged(attempt: u32, step: Option<&str>) -> Event {
    let stopping_after = step.map(str::to_owned);
    Event::CancelAcknowledged(CancelAcknowledged { attempt, stopping_after, expected_end: None })
}

pub(crate) fn escalated(rung: Rung) -> Event {
    Event::CancelEscalated(CancelEscalated { rung, reason: None })
}

/// The failure of the `nth` attempt of its run, at [`now`].
pub(crate) fn attempt_failed(attempt: u32, nth: u32) -> Event {
    let retry_at = retry_at(nth, now(), &lease(attempt));
    Event::AttemptFailed(AttemptFailed { attempt, error: broken(), retry_at, progress: None })
}

pub(crate) fn released(attempt: u32) -> Event {
    Event::Released(Released { attempt, reason: ReleasedReason::HandedBack })
}

pub(crate) fn completed(outcome: Outcome, attempt: Option<u32>) -> Completed {
    Completed { outcome, attempt, message: None, result: None, error: None, forced: false, progress: None }
}

pub(crate) fn retried() -> Event {
    Event::Retried(Retried { reason: None })
}

pub(crate) fn broken() -> TaskError {
    TaskError { code: "disk_full".into(), message: "no space left".into() }
}

pub(crate) fn lost() -> TaskError {
    TaskError { code: "lease_expired".into(), message: "no heartbeat for 30 s".into() }
}

pub(crate) fn halfway() -> Progress {
    Progress { fraction: Some(0.5), message: text("file 1 of 2"), at: now() }
}

// Endings, as events.

pub(crate) fn succeeded_by(attempt: u32) -> Event {
    Event::Completed(completed(Outcome::Succeeded, Some(attempt)))
}

pub(crate) fn failed_by(attempt: u32) -> Event {
    Event::Completed(Completed { error: Some(broken()), ..completed(Outcome::Failed, Some(attempt)) })
}

pub(crate) fn cancelled_by(attempt: u32) -> Event {
    Event::Completed(completed(Outcome::Cancelled, Some(attempt)))
}

pub(crate) fn forced(attempt: u32, error: Option<TaskError>) -> Event {
    Event::Completed(Completed { error, forced: true, ..completed(Outcome::Cancelled, Some(attempt)) })
}

/// The end of a task that was cancelled while no attempt ran.
pub(crate) fn cancelled_waiting(message: Option<&str>) -> Event {
    Event::Completed(Completed { message: message.map(str::to_owned), ..completed(Outcome::Cancelled, None) })
}

// Histories, one for each status.

pub(crate) fn scheduled() -> Vec<Event> {
    vec![created_with(|new| new.run_at = Some(after(60)))]
}

pub(crate) fn queued() -> Vec<Event> {
    vec![created()]
}

pub(crate) fn running() -> Vec<Event> {
    vec![created(), started(1)]
}

pub(crate) fn cancelling() -> Vec<Event> {
    [running(), vec![cancel_requested()]].concat()
}

pub(crate) fn retrying() -> Vec<Event> {
    [running(), vec![attempt_failed(1, 1)]].concat()
}

pub(crate) fn succeeded() -> Vec<Event> {
    [running(), vec![succeeded_by(1)]].concat()
}

pub(crate) fn failed() -> Vec<Event> {
    [running(), vec![failed_by(1)]].concat()
}

pub(crate) fn cancelled() -> Vec<Event> {
    [cancelling(), vec![cancelled_by(1)]].concat()
}

// Commands.

pub(crate) fn create() -> Command {
    Command::Create(Arc::new(work()))
}

pub(crate) fn enqueue(reason: QueuedReason) -> Command {
    Command::Enqueue { reason }
}

pub(crate) fn start(attempt: u32) -> Command {
    Command::Start { worker: "w1".into(), lease_hash: lease(attempt) }
}

pub(crate) fn cancel() -> Command {
    Command::RequestCancel { reason: text("wrong campaign"), policy: CancelLadder::default() }
}

pub(crate) fn acknowledge(attempt: u32, step: Option<&str>) -> Command {
    Command::AcknowledgeCancel {
        attempt,
        lease_hash: None,
        stopping_after: step.map(str::to_owned),
        expected_end: None,
    }
}

/// The command of an operator.
pub(crate) fn escalate(rung: Rung) -> Command {
    Command::Escalate { rung, reason: None, attempt: None }
}

/// The command of a timer.
pub(crate) fn next_rung(rung: Rung, attempt: u32) -> Command {
    Command::Escalate { rung, reason: None, attempt: Some(attempt) }
}

pub(crate) fn finish(attempt: u32, end: AttemptEnd) -> Command {
    Command::Finish { attempt, lease_hash: None, end, progress: None, output: None }
}

pub(crate) fn success() -> AttemptEnd {
    AttemptEnd::Succeeded { message: None, result: None }
}

pub(crate) fn failure() -> AttemptEnd {
    AttemptEnd::Failed { error: broken(), retryable: true }
}

pub(crate) fn stopped() -> AttemptEnd {
    AttemptEnd::Cancelled { message: None, result: None }
}

pub(crate) fn handed_back() -> AttemptEnd {
    AttemptEnd::Released(ReleasedReason::HandedBack)
}

pub(crate) fn lose(attempt: u32) -> Command {
    Command::LoseAttempt { attempt, error: lost(), progress: None }
}

pub(crate) fn retry() -> Command {
    Command::Retry { reason: None }
}
