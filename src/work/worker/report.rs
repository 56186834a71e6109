//! How an attempt's end is told: within the limits of what may be written down, and until it is recorded.

use std::any::Any;
#[cfg(feature = "server")]
use std::time::Duration;

use serde_json::Value;
#[cfg(feature = "server")]
use tracing::{error, warn};
#[cfg(feature = "server")]
use uuid::Uuid;

use super::attempt::Attempt;
use super::handler::{Done, Failure};
#[cfg(feature = "server")]
use super::local::Doors;
#[cfg(feature = "server")]
use crate::dispatch::messages::Stopped;
#[cfg(feature = "server")]
use crate::projection::projector::NoteProgress;
#[cfg(feature = "server")]
use crate::store::now;
#[cfg(feature = "server")]
use crate::store::{AppendError, Meta, Via};
#[cfg(feature = "server")]
use crate::streams::messages::{Execute, ExecuteError};
#[cfg(feature = "server")]
use crate::task::TaskId;
use crate::task::command::End;
use crate::task::event::{Progress, TaskError};
use crate::task::limits::{DEPTH_MAX, NAME_MAX, RESULT_MAX, TEXT_MAX, fits, is_inline};
use crate::task::{Command, Rejection};

/// The pause after the first try that failed; it doubles.
#[cfg(feature = "server")]
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between two tries.
#[cfg(feature = "server")]
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a worker speaks of an attempt: by messages inside the process, or over the wire.
pub(in crate::work) trait Voice: Send + Sync + 'static {
    /// A passing remark.
    fn note(&self, attempt: &Attempt, progress: Progress);

    /// Says `command` until it is recorded or refused, or `give_up` says so after a try that failed. Whether the task's
    /// stream holds the answer now, this one or somebody else's.
    fn tell(
        &self,
        attempt: &Attempt,
        command: Command,
        give_up: impl Fn() -> bool + Send,
    ) -> impl Future<Output = bool> + Send;

    /// None of its code runs any more; `told` where its end is recorded, or is nobody's business here.
    fn over(&self, attempt: &Attempt, told: bool);
}

#[cfg(feature = "server")]
impl Voice for Doors {
    fn note(&self, attempt: &Attempt, progress: Progress) {
        self.progress.do_send(NoteProgress { task: attempt.task, attempt: attempt.number, progress });
    }

    async fn tell(&self, attempt: &Attempt, command: Command, give_up: impl Fn() -> bool + Send) -> bool {
        record(self, attempt.task, command, give_up).await
    }

    fn over(&self, attempt: &Attempt, told: bool) {
        if told {
            self.stopped.do_send(Stopped { task: attempt.task, attempt: attempt.number });
        }
    }
}

/// `text` as one line of at most `max` bytes; none where nothing is left.
pub(in crate::work) fn line(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars().map(|c| if is_inline(c) { c } else { ' ' }) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    let seen = out.trim();
    (!seen.is_empty()).then(|| seen.to_owned())
}

/// The failure of a handler that panicked with `payload`.
pub(in crate::work) fn panicked(payload: &(dyn Any + Send)) -> Failure {
    let said = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::retryable("panicked", format!("the handler panicked: {said}"))
}

/// What the handler gave, as it may be written down.
pub(in crate::work) fn end(ended: Result<Done, Failure>) -> End {
    match ended {
        Ok(Done { message, result }) => match result.as_ref().and_then(too_much) {
            Some(error) => End::Failed { error, retryable: false },
            None => End::Succeeded { message: message.and_then(|text| line(&text, TEXT_MAX)), result },
        },
        Err(Failure::Failed { code, message, retryable }) => {
            End::Failed { error: error_of(&code, &message), retryable }
        }
        // Stopping is what was asked for; a result that is too large doesn't make it a failure.
        Err(Failure::Cancelled { message, result }) => End::Cancelled {
            message: message.and_then(|text| line(&text, TEXT_MAX)),
            result: result.filter(|result| too_much(result).is_none()),
        },
    }
}

/// An error with a code of at most 64 bytes and a message of at most 1,024.
pub(in crate::work) fn error_of(code: &str, message: &str) -> TaskError {
    let code = line(code, NAME_MAX).unwrap_or_else(|| "failed".to_owned());
    let message = line(message, TEXT_MAX).unwrap_or_else(|| code.clone());
    TaskError { code, message }
}

fn too_much(result: &Value) -> Option<TaskError> {
    let words = format!("the result has more than {RESULT_MAX} bytes as compact JSON or {DEPTH_MAX} levels");
    (!fits(result, RESULT_MAX)).then(|| error_of("result_too_large", &words))
}

#[cfg(feature = "server")]
async fn record(doors: &Doors, task: TaskId, mut command: Command, give_up: impl Fn() -> bool) -> bool {
    let at = now();
    let correlation_id = Uuid::new_v4();
    let mut pause = FIRST_PAUSE;
    loop {
        let meta = Meta {
            actor: doors.worker.clone(),
            via: Via::Worker,
            correlation_id,
            causation_id: None,
            request_id: None,
        };
        let why = match doors.execute.send(Execute { task, command: command.clone(), at, meta }).await {
            Ok(Ok(_)) => return true,
            Ok(Err(ExecuteError::Rejected(no))) => match unasked(command, &no) {
                Some(instead) => {
                    command = instead;
                    continue;
                }
                None => return true,
            },
            Ok(Err(ExecuteError::Append(AppendError::ReadOnly(why)))) => {
                error!(%task, why, "the end of an attempt is not recorded: the log takes no more writes");
                return false;
            }
            Ok(Err(later @ (ExecuteError::Append(_) | ExecuteError::Read(_) | ExecuteError::Busy(_)))) => {
                later.to_string()
            }
            // The mailbox is gone: the process is stopping.
            Err(_) => return false,
        };
        if give_up() {
            return false;
        }
        warn!(%task, why, "a worker's report is not recorded yet, it will be sent again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A handler that says "cancelled" although nobody asked has not done its work: that is a failure.
pub(in crate::work) fn unasked(command: Command, no: &Rejection) -> Option<Command> {
    match (command, no) {
        (
            Command::Finish { attempt, lease, end: End::Cancelled { .. }, progress, output },
            Rejection::NotCancelling,
        ) => {
            let error = error_of("stopped_unasked", "the handler stopped as cancelled, but nobody had asked for it");
            Some(Command::Finish { attempt, lease, end: End::Failed { error, retryable: true }, progress, output })
        }
        _ => None,
    }
}
