//! The rules: the events that a command leads to.

use std::sync::Arc;

use super::command::{Command, End, Rejection};
use super::event::{
    AttemptFailed, CancelAcknowledged, CancelEscalated, CancelPolicy, CancelRequested, Completed, Created, Event,
    Outcome, OutputKept, Progress, Queued, QueuedReason, Released, Retried, Rung, Started, TaskError, is_system_error,
};
use super::json::JsonText;
use super::limits::{self, Invalid};
use super::retry::retry_at;
use super::state::{Cancel, Status, Task};
use super::time::Timestamp;

/// The events that `command` leads to at `now`; an empty list where nothing is left to do, which is a success.
///
/// # Errors
/// A [`Rejection`] where the rules don't allow the command; then nothing happens.
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
        Command::Start { worker, lease } => start(task, worker, lease),
        Command::RequestCancel { reason, policy } => Ok(request_cancel(task, reason.as_deref(), *policy)),
        Command::AcknowledgeCancel { attempt, lease, stopping_after, expected_end } => {
            acknowledge(task, (*attempt, lease.as_deref()), stopping_after.as_deref(), *expected_end)
        }
        Command::Escalate { rung, reason, attempt } => escalate(task, *rung, reason.as_deref(), *attempt),
        Command::Finish { attempt, lease, end, progress, output } => {
            let lease = lease.as_deref();
            if lease.is_some_and(|lease| task.ended_by_its_worker(*attempt, lease).is_some()) {
                return Ok(Vec::new());
            }
            let end = finish(task, (*attempt, lease), end, progress.as_ref(), now)?;
            Ok(output
                .iter()
                .map(|kept| Event::OutputKept(OutputKept { attempt: *attempt, ..kept.clone() }))
                .chain([end])
                .collect())
        }
        Command::LoseAttempt { attempt, error, progress } => Ok(lose(task, *attempt, error, progress.as_ref(), now)),
        Command::Retry { reason } => retry(task, reason.as_deref()),
    }
}

fn create(new: &Arc<Created>, now: Timestamp) -> Result<Vec<Event>, Rejection> {
    let invalid = limits::check(new);
    if !invalid.is_empty() {
        return Err(Rejection::Invalid(invalid));
    }
    // The event shares the command's text, unless the time is over that it was to wait for.
    let is_due = new.run_at.is_some_and(|at| at <= now);
    let created = if is_due { Arc::new(Created { run_at: None, ..Created::clone(new) }) } else { Arc::clone(new) };
    Ok(vec![Event::Created(created)])
}

fn enqueue(task: &Task, reason: QueuedReason, now: Timestamp) -> Vec<Event> {
    let due = match (reason, task.status) {
        (QueuedReason::RunAt, Status::Scheduled) => task.created.run_at,
        (QueuedReason::RetryAt, Status::Retrying) => task.retry_at,
        (QueuedReason::RunAt | QueuedReason::RetryAt, _) => None,
    };
    if due.is_some_and(|due| due <= now) { vec![Event::Queued(Queued { reason })] } else { Vec::new() }
}

fn start(task: &Task, worker: &str, lease: &str) -> Result<Vec<Event>, Rejection> {
    if task.status != Status::Queued {
        return Err(Rejection::NotQueued);
    }
    Ok(vec![Event::Started(Started {
        attempt: task.attempt.saturating_add(1),
        worker: worker.to_owned(),
        lease: lease.to_owned(),
    })])
}

/// Only the first of many requests leads to a `CancelRequested`. A task that doesn't run is cancelled at once.
fn request_cancel(task: &Task, reason: Option<&str>, policy: CancelPolicy) -> Vec<Event> {
    let requested = Event::CancelRequested(CancelRequested { reason: reason.map(str::to_owned), policy });
    match task.status {
        Status::Succeeded | Status::Failed | Status::Cancelled | Status::Cancelling => Vec::new(),
        Status::Running => vec![requested],
        Status::Scheduled | Status::Queued | Status::Retrying => {
            // The event names no attempt: the end of the last one, if there was one, is in the log already.
            let message = (task.attempt == 0).then(|| "cancelled before it started".to_owned());
            let ended = Completed { message, ..ended(Outcome::Cancelled) };
            vec![requested, Event::Completed(ended)]
        }
    }
}

fn acknowledge(
    task: &Task,
    lease: Lease<'_>,
    stopping_after: Option<&str>,
    expected_end: Option<Timestamp>,
) -> Result<Vec<Event>, Rejection> {
    check_lease(task, lease)?;
    let Some(Cancel { acknowledged, acknowledgements, .. }) = running_cancel(task) else {
        return Err(Rejection::NotCancelling);
    };
    if *acknowledgements >= limits::ACKNOWLEDGEMENTS_MAX
        || acknowledged.as_ref().is_some_and(|step| step.as_deref() == stopping_after)
    {
        return Ok(Vec::new());
    }
    let (attempt, stopping_after) = (lease.0, stopping_after.map(str::to_owned));
    Ok(vec![Event::CancelAcknowledged(CancelAcknowledged { attempt, stopping_after, expected_end })])
}

fn escalate(task: &Task, rung: Rung, reason: Option<&str>, attempt: Option<u32>) -> Result<Vec<Event>, Rejection> {
    let is_over = attempt.is_some_and(|attempt| attempt != task.attempt);
    if task.status.is_final() || is_over {
        return Ok(Vec::new());
    }
    let Some(cancel) = running_cancel(task) else {
        return if attempt.is_some() { Ok(Vec::new()) } else { Err(Rejection::NotCancelling) };
    };
    if rung <= cancel.rung {
        return Ok(Vec::new());
    }
    let mut events = vec![Event::CancelEscalated(CancelEscalated { rung, reason: reason.map(str::to_owned) })];
    if rung == Rung::Revoke {
        let ended = Completed { attempt: Some(task.attempt), forced: true, ..ended(Outcome::Cancelled) };
        events.push(Event::Completed(ended));
    }
    Ok(events)
}

fn finish(
    task: &Task,
    lease: Lease<'_>,
    end: &End,
    progress: Option<&Progress>,
    now: Timestamp,
) -> Result<Event, Rejection> {
    check_lease(task, lease)?;
    let attempt = lease.0;
    let is_cancelling = running_cancel(task).is_some();
    let base = |outcome| Completed { attempt: Some(attempt), progress: progress.cloned(), ..ended(outcome) };
    Ok(match end {
        End::Succeeded { message, result } => Event::Completed(Completed {
            message: message.clone(),
            result: not_null(result.as_ref()),
            ..base(Outcome::Succeeded)
        }),
        End::Failed { error, .. } if lease.1.is_some() && is_system_error(error) => {
            let detail = "this code is the system's own: it says that the worker did not end the attempt";
            return Err(Rejection::Invalid(vec![Invalid::new("/error/code", detail)]));
        }
        End::Failed { error, retryable } => failed(task, error, *retryable && !is_cancelling, progress, now),
        End::Cancelled { .. } if !is_cancelling => return Err(Rejection::NotCancelling),
        End::Cancelled { message, result } => Event::Completed(Completed {
            message: message.clone(),
            result: not_null(result.as_ref()),
            ..base(Outcome::Cancelled)
        }),
        // The code has stopped, as the cancel requested.
        End::Released(_) if is_cancelling => Event::Completed(base(Outcome::Cancelled)),
        End::Released(reason) => Event::Released(Released { attempt, reason: *reason }),
    })
}

/// The end of an attempt that its worker didn't report. Under a request to cancel the task is `cancelled` by force and not
/// retried: it is not known whether its code has stopped.
fn lose(task: &Task, attempt: u32, error: &TaskError, progress: Option<&Progress>, now: Timestamp) -> Vec<Event> {
    if check_lease(task, (attempt, None)).is_err() {
        return Vec::new();
    }
    if running_cancel(task).is_none() {
        return vec![failed(task, error, true, progress, now)];
    }
    vec![Event::Completed(Completed {
        attempt: Some(attempt),
        error: Some(error.clone()),
        forced: true,
        progress: progress.cloned(),
        ..ended(Outcome::Cancelled)
    })]
}

fn retry(task: &Task, reason: Option<&str>) -> Result<Vec<Event>, Rejection> {
    if !task.status.is_final() {
        return Err(Rejection::NotFinal);
    }
    Ok(vec![Event::Retried(Retried { reason: reason.map(str::to_owned) })])
}

/// The end of a failed attempt: another attempt follows if the run has attempts left; otherwise the run is over.
fn failed(task: &Task, error: &TaskError, retryable: bool, progress: Option<&Progress>, now: Timestamp) -> Event {
    let (attempt, error, progress) = (task.attempt, error.clone(), progress.cloned());
    if retryable && task.attempts_in_run < task.created.max_attempts {
        let retry_at = retry_at(task.attempts_in_run, now, task.lease.as_deref().unwrap_or_default());
        return Event::AttemptFailed(AttemptFailed { attempt, error, retry_at, progress });
    }
    Event::Completed(Completed { attempt: Some(attempt), error: Some(error), progress, ..ended(Outcome::Failed) })
}

/// An attempt and the hash of the secret that its worker sent; the worker inside the process sends none.
type Lease<'a> = (u32, Option<&'a str>);

/// Rejects a message about an attempt that doesn't run, and one with the secret of another lease.
fn check_lease(task: &Task, (attempt, secret): Lease<'_>) -> Result<(), Rejection> {
    let is_holder = secret.is_none_or(|secret| task.lease.as_deref() == Some(secret));
    if task.status.is_active() && task.attempt == attempt && is_holder { Ok(()) } else { Err(Rejection::LeaseLost) }
}

fn running_cancel(task: &Task) -> Option<&Cancel> {
    task.cancel.as_ref().filter(|_| task.status == Status::Cancelling)
}

/// The result, unless it is null: the log can't tell null from no result.
fn not_null(result: Option<&JsonText>) -> Option<JsonText> {
    result.filter(|value| !value.is_null()).cloned()
}

const fn ended(outcome: Outcome) -> Completed {
    Completed { outcome, attempt: None, message: None, result: None, error: None, forced: false, progress: None }
}
