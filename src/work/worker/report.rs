//! What a worker reports of an attempt, within the limits of what may be recorded.

use super::attempt::Attempt;
use super::outcome::{Done, Failure};
use super::text::line;
use crate::task::command::End;
use crate::task::event::{Progress, TaskError};
use crate::task::limits::{DEPTH_MAX, NAME_MAX, RESULT_MAX, TEXT_MAX, fits};
use crate::task::{Command, JsonText, Rejection};

/// How a worker reports on an attempt: by messages inside the process, or over HTTP.
pub(in crate::work) trait Reporter: Send + Sync + 'static {
    /// Sends progress. It may be dropped: the last progress is part of the attempt's end.
    fn send_progress(&self, attempt: &Attempt, progress: Progress);

    /// Sends `command` again and again until it is recorded or refused for good, or until `give_up` returns true after a
    /// try that failed. True if the attempt is settled: its end is in the log, or belongs to another.
    fn send_command(
        &self,
        attempt: &Attempt,
        command: Command,
        give_up: impl Fn() -> bool + Send,
    ) -> impl Future<Output = bool> + Send;

    /// Frees the attempt's slot, once none of its code runs any more. An attempt that is not `settled` may be in the log
    /// as running.
    fn release(&self, attempt: &Attempt, settled: bool);
}

/// The end to be recorded for what a handler returned.
pub(in crate::work) fn end_of(returned: Result<Done, Failure>) -> End {
    match returned {
        Ok(Done { message, result }) => match result.as_ref().and_then(too_large) {
            Some(error) => End::Failed { error, retryable: false },
            None => End::Succeeded { message: message.and_then(|text| line(&text, TEXT_MAX)), result },
        },
        Err(Failure::Failed { code, message, retryable }) => {
            End::Failed { error: error_of(&code, &message), retryable }
        }
        // The handler did what was requested: a result that is too large does not make that a failure.
        Err(Failure::Cancelled { message, result }) => End::Cancelled {
            message: message.and_then(|text| line(&text, TEXT_MAX)),
            result: result.filter(|result| too_large(result).is_none()),
        },
    }
}

/// An error with a code of at most 64 bytes and a message of at most 1,024.
pub(in crate::work) fn error_of(code: &str, message: &str) -> TaskError {
    let code = line(code, NAME_MAX).unwrap_or_else(|| "failed".to_owned());
    let message = line(message, TEXT_MAX).unwrap_or_else(|| code.clone());
    TaskError { code, message }
}

fn too_large(result: &JsonText) -> Option<TaskError> {
    let message = format!("the result has more than {RESULT_MAX} bytes as compact JSON or {DEPTH_MAX} levels");
    (!fits(result, RESULT_MAX)).then(|| error_of("result_too_large", &message))
}

/// The command in place of a finish as cancelled that was rejected because no cancel is requested: the handler has not done
/// its work, so that is a failure.
pub(in crate::work) fn stopped_unasked(command: Command, rejection: &Rejection) -> Option<Command> {
    match (command, rejection) {
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
