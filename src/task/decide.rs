//! The rules of a task: which events a command leads to.

use std::sync::Arc;

use super::command::{AttemptEnd, Command, Rejection};
use super::event::{
    AttemptFailed, CancelAcknowledged, CancelEscalated, CancelLadder, CancelRequested, Completed, Created, Event,
    Outcome, OutputKept, Progress, Queued, QueuedReason, Released, Retried, Rung, Started, TaskError, is_system_error,
};
use super::json::JsonText;
use super::limits::{self, Invalid};
use super::retry::retry_at;
use super::state::{CancelState, Status, Task};
use super::time::Timestamp;

/// The events that `command` leads to at the time `now`. The list is empty if the command needs no event; that is a success
/// too. `state` is `None` if the task doesn't exist.
///
/// # Errors
/// A [`Rejection`] if the rules don't allow the command.
pub fn decide(state: Option<&Task>, command: &Command, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let Some(task) = state else {
        return match command {
            Command::Create(new) => create(new, now),
            Command::Enqueue { .. }
            | Command::Start { .. }
            | Command::RequestCancel { .. }
            | Command::AcknowledgeCancel { .. }
            | Command::Escalate { .. }
            | Command::Finish { .. }
            | Command::LoseAttempt { .. }
            | Command::Retry { .. } => Err(Rejection::NotFound),
        };
    };
    match command {
        Command::Create(_) => Err(Rejection::AlreadyExists),
        Command::Enqueue { reason } => Ok(enqueue(task, *reason, now)),
        Command::Start { worker, lease_hash } => start(task, worker, lease_hash),
        Command::RequestCancel { reason, policy } => Ok(request_cancel(task, reason.as_deref(), *policy)),
        Command::AcknowledgeCancel { attempt, lease_hash, stopping_after, expected_end } => {
            let attempt = ReportedAttempt { number: *attempt, lease_hash: lease_hash.as_deref() };
            acknowledge(task, attempt, stopping_after.as_deref(), *expected_end)
        }
        Command::Escalate { rung, reason, attempt } => escalate(task, *rung, reason.as_deref(), *attempt),
        Command::Finish { attempt, lease_hash, end, progress, output } => {
            let attempt = ReportedAttempt { number: *attempt, lease_hash: lease_hash.as_deref() };
            let is_repeated = |lease_hash| task.status_after_reported_end(attempt.number, lease_hash).is_some();
            if attempt.lease_hash.is_some_and(is_repeated) {
                return Ok(Vec::new());
            }
            let end = finish(task, attempt, end, progress.as_ref(), now)?;
            Ok(output
                .iter()
                .map(|kept| Event::OutputKept(OutputKept { attempt: attempt.number, ..kept.clone() }))
                .chain([end])
                .collect())
        }
        Command::LoseAttempt { attempt, error, progress } => {
            Ok(lose_attempt(task, *attempt, error, progress.as_ref(), now))
        }
        Command::Retry { reason } => retry(task, reason.as_deref()),
    }
}

fn create(new: &Arc<Created>, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let invalid = limits::invalid_fields(new);
    if !invalid.is_empty() {
        return Err(Rejection::Invalid(invalid));
    }
    // If `run_at` has passed already, the event is a copy of the request without `run_at`. Otherwise it shares the memory of
    // the request.
    let is_due = new.run_at.is_some_and(|at| at <= now);
    let created = if is_due { Arc::new(Created { run_at: None, ..Created::clone(new) }) } else { Arc::clone(new) };
    Ok(vec![Event::Created(created)])
}

fn enqueue(task: &Task, reason: QueuedReason, now: Timestamp) -> Vec<Event> {
    let ready_at = match (reason, task.status) {
        (QueuedReason::RunAt, Status::Scheduled) => task.created.run_at,
        (QueuedReason::RetryAt, Status::Retrying) => task.retry_at,
        (QueuedReason::RunAt | QueuedReason::RetryAt, _) => None,
    };
    if ready_at.is_some_and(|at| at <= now) { vec![Event::Queued(Queued { reason })] } else { Vec::new() }
}

fn start(task: &Task, worker: &str, lease_hash: &str) -> Result<Vec<Event>, Rejection> {
    if task.status != Status::Queued {
        return Err(Rejection::NotQueued);
    }
    Ok(vec![Event::Started(Started {
        attempt: task.attempt.saturating_add(1),
        worker: worker.to_owned(),
        lease_hash: lease_hash.to_owned(),
    })])
}

/// Only the first request to cancel a run leads to a `CancelRequested`. A task that doesn't run is cancelled at once.
fn request_cancel(task: &Task, reason: Option<&str>, policy: CancelLadder) -> Vec<Event> {
    let requested = Event::CancelRequested(CancelRequested { reason: reason.map(str::to_owned), policy });
    match task.status {
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Cancelling => Vec::new(),
        Status::Running => vec![requested],
        Status::Scheduled | Status::Queued | Status::Retrying => {
            // `attempt` of the event is null: no attempt runs, and the end of an earlier attempt is in the log already.
            let message = (task.attempt == 0).then(|| "cancelled before it started".to_owned());
            let completed = Completed { message, ..completed_as(Outcome::Cancelled) };
            vec![requested, Event::Completed(completed)]
        }
    }
}

fn acknowledge(
    task: &Task,
    attempt: ReportedAttempt<'_>,
    stopping_after: Option<&str>,
    expected_end: Option<Timestamp>,
) -> Result<Vec<Event>, Rejection> {
    check_lease(task, attempt)?;
    let Some(CancelState { acknowledged, acknowledgements, .. }) = cancel_under_way(task) else {
        return Err(Rejection::NotCancelling);
    };
    if *acknowledgements >= limits::ACKNOWLEDGEMENTS_MAX || acknowledged.is_repeated_by(stopping_after) {
        return Ok(Vec::new());
    }
    let (attempt, stopping_after) = (attempt.number, stopping_after.map(str::to_owned));
    Ok(vec![Event::CancelAcknowledged(CancelAcknowledged { attempt, stopping_after, expected_end })])
}

fn escalate(task: &Task, rung: Rung, reason: Option<&str>, attempt: Option<u32>) -> Result<Vec<Event>, Rejection> {
    let attempt_is_over = attempt.is_some_and(|attempt| attempt != task.attempt);
    if task.status.is_final() || attempt_is_over {
        return Ok(Vec::new());
    }
    let Some(cancel) = cancel_under_way(task) else {
        return if attempt.is_some() { Ok(Vec::new()) } else { Err(Rejection::NotCancelling) };
    };
    if rung <= cancel.rung {
        return Ok(Vec::new());
    }
    let mut events = vec![Event::CancelEscalated(CancelEscalated { rung, reason: reason.map(str::to_owned) })];
    if rung == Rung::Revoke {
        let completed = Completed { attempt: Some(task.attempt), forced: true, ..completed_as(Outcome::Cancelled) };
        events.push(Event::Completed(completed));
    }
    Ok(events)
}

fn finish(
    task: &Task,
    attempt: ReportedAttempt<'_>,
    end: &AttemptEnd,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Result<Event, Rejection> {
    check_lease(task, attempt)?;
    let is_cancelling = cancel_under_way(task).is_some();
    let completed =
        |outcome| Completed { attempt: Some(attempt.number), progress: progress.cloned(), ..completed_as(outcome) };
    Ok(match end {
        AttemptEnd::Succeeded { message, result } => Event::Completed(Completed {
            message: message.clone(),
            result: non_null(result.as_ref()),
            ..completed(Outcome::Succeeded)
        }),
        AttemptEnd::Failed { error, .. } if attempt.lease_hash.is_some() && is_system_error(error) => {
            let detail = "this error code is reserved for the server";
            return Err(Rejection::Invalid(vec![Invalid::new("/error/code", detail)]));
        }
        AttemptEnd::Failed { error, retryable } => {
            end_failed_attempt(task, error, *retryable && !is_cancelling, progress, now)
        }
        AttemptEnd::Cancelled { .. } if !is_cancelling => return Err(Rejection::NotCancelling),
        AttemptEnd::Cancelled { message, result } => Event::Completed(Completed {
            message: message.clone(),
            result: non_null(result.as_ref()),
            ..completed(Outcome::Cancelled)
        }),
        // The attempt has ended while a cancel was under way, so the task is cancelled and not queued again.
        AttemptEnd::Released(_) if is_cancelling => Event::Completed(completed(Outcome::Cancelled)),
        AttemptEnd::Released(reason) => Event::Released(Released { attempt: attempt.number, reason: *reason }),
    })
}

/// Ends an attempt whose end its worker didn't report. If a cancel is under way, the task becomes `cancelled` by force,
/// because it is not known whether its code has stopped. It gets no other attempt then.
fn lose_attempt(
    task: &Task,
    attempt: u32,
    error: &TaskError,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Vec<Event> {
    if check_lease(task, ReportedAttempt { number: attempt, lease_hash: None }).is_err() {
        return Vec::new();
    }
    if cancel_under_way(task).is_none() {
        return vec![end_failed_attempt(task, error, true, progress, now)];
    }
    vec![Event::Completed(Completed {
        attempt: Some(attempt),
        error: Some(error.clone()),
        forced: true,
        progress: progress.cloned(),
        ..completed_as(Outcome::Cancelled)
    })]
}

fn retry(task: &Task, reason: Option<&str>) -> Result<Vec<Event>, Rejection> {
    if !task.status.is_final() {
        return Err(Rejection::NotFinal);
    }
    Ok(vec![Event::Retried(Retried { reason: reason.map(str::to_owned) })])
}

/// The event that ends a failed attempt. If the run has attempts left, another attempt follows; otherwise the run is over.
fn end_failed_attempt(
    task: &Task,
    error: &TaskError,
    retryable: bool,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Event {
    let (attempt, error, progress) = (task.attempt, error.clone(), progress.cloned());
    if retryable && task.attempts_in_run < task.created.max_attempts {
        let retry_at = retry_at(task.attempts_in_run, now, task.lease_hash.as_deref().unwrap_or_default());
        return Event::AttemptFailed(AttemptFailed { attempt, error, retry_at, progress });
    }
    Event::Completed(Completed {
        attempt: Some(attempt),
        error: Some(error),
        progress,
        ..completed_as(Outcome::Failed)
    })
}

/// The attempt that a worker's report names.
#[derive(Clone, Copy)]
struct ReportedAttempt<'a> {
    number: u32,
    /// BLAKE3 of the secret that the worker sent. The worker inside the process sends no secret: `None`.
    lease_hash: Option<&'a str>,
}

/// Rejects a report if its attempt doesn't run, or if its secret belongs to another lease.
fn check_lease(task: &Task, attempt: ReportedAttempt<'_>) -> Result<(), Rejection> {
    let is_holder = attempt.lease_hash.is_none_or(|hash| task.lease_hash.as_deref() == Some(hash));
    let is_running = task.status.is_active() && task.attempt == attempt.number;
    if is_running && is_holder { Ok(()) } else { Err(Rejection::LeaseLost) }
}

/// The request to cancel, while the task is `cancelling`.
fn cancel_under_way(task: &Task) -> Option<&CancelState> {
    task.cancel.as_ref().filter(|_| task.status == Status::Cancelling)
}

/// The result; `None` if it is null, because null means "no result" in the log.
fn non_null(result: Option<&JsonText>) -> Option<JsonText> {
    result.filter(|value| !value.is_null()).cloned()
}

/// A `Completed` with this outcome and without any other detail.
const fn completed_as(outcome: Outcome) -> Completed {
    Completed { outcome, attempt: None, message: None, result: None, error: None, forced: false, progress: None }
}
