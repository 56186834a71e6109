//! The reports of the worker inside the process. They are messages to the server's actors.

use std::fmt;
use std::time::{Duration, Instant};

use actix::Recipient;
use tracing::{error, warn};
use uuid::Uuid;

use super::attempt::Attempt;
use super::report::{Reporter, replace_unrequested_cancel};
use crate::dispatch::messages::{AttemptStopped, LocalOffer};
use crate::projection::projector::ReportProgress;
use crate::repeats::Repeats;
use crate::store::{AppendError, Meta, ReadError, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::backoff::BackOff;
use crate::task::event::Progress;
use crate::task::{Command, TaskId};

/// The pauses before a command that was not recorded is sent again.
const RETRY_PAUSES: BackOff = BackOff::new(Duration::from_millis(250), Duration::from_secs(5));

/// The reports that were not recorded at once.
static UNRECORDED: Repeats = Repeats::new();

/// The reporter of the worker inside the process: the worker's name and the actors that it sends messages to.
#[derive(Clone)]
pub struct LocalReporter {
    /// The worker's name, `local/<host name>/<id>`. The id is new in each start of this process.
    pub worker: String,
    /// The actor of `Registry::recipient`. It passes commands to the registry, which executes them.
    pub execute: Recipient<Execute>,
    /// The dispatcher. It receives the kinds and the slots of the worker.
    pub offer: Recipient<LocalOffer>,
    /// The dispatcher. It receives the attempts whose slots are free again.
    pub stopped: Recipient<AttemptStopped>,
    /// The projector. It receives progress.
    pub progress: Recipient<ReportProgress>,
}

impl fmt::Debug for LocalReporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalReporter").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Reporter for LocalReporter {
    fn send_progress(&self, attempt: &Attempt, progress: Progress) {
        // If the projector's mailbox is full, this progress is dropped. A later progress replaces it anyway, and the
        // attempt's end contains the last one.
        let _ = self.progress.try_send(ReportProgress { task: attempt.task, attempt: attempt.number, progress });
    }

    async fn send_command(
        &self,
        attempt: &Attempt,
        command: Command,
        should_give_up: impl Fn() -> bool + Send,
    ) -> bool {
        self.send_until_recorded(attempt.task, command, should_give_up).await
    }

    /// Reports the free slot to the dispatcher. If the end still needs a report, the slot stays in use until the process ends.
    fn attempt_stopped(&self, attempt: &Attempt, is_report_done: bool) {
        if is_report_done {
            self.stopped.do_send(AttemptStopped { task: attempt.task, attempt: attempt.number });
        }
    }
}

/// What the worker does after a command was not recorded.
enum AfterFailure {
    /// Sends the command again, for this reason.
    Retry(String),
    /// Sends it no more: the rules have rejected the command, or the task's stream can't be read. The command will never be
    /// recorded.
    Refused,
    /// Sends it no more: the log accepts no writes. Until the process restarts, no attempt's end can be recorded.
    LogReadOnly,
}

impl LocalReporter {
    /// Sends the command until it is recorded or refused. Returns as [`Reporter::send_command`].
    async fn send_until_recorded(&self, task: TaskId, mut command: Command, should_give_up: impl Fn() -> bool) -> bool {
        let at = now();
        let correlation_id = Uuid::new_v4();
        let mut pauses = RETRY_PAUSES;
        loop {
            let meta = Meta {
                actor: self.worker.clone(),
                via: Via::Worker,
                correlation_id,
                causation_id: None,
                request_id: None,
            };
            let sent = self.execute.send(Execute { task, command: command.clone(), at, meta }).await;
            let error = match sent {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) => error,
                // The shard's actor has stopped, because the process is stopping.
                Err(_) => return false,
            };
            if let ExecuteError::Rejected(rejection) = &error
                && let Some(replacement) = replace_unrequested_cancel(command.clone(), rejection)
            {
                command = replacement;
                continue;
            }
            let reason = match after_failure(task, &error) {
                AfterFailure::Retry(reason) => reason,
                AfterFailure::Refused => return true,
                AfterFailure::LogReadOnly => return false,
            };
            if should_give_up() {
                return false;
            }
            if let Some(times) = UNRECORDED.occurred(Instant::now()) {
                warn!(%task, reason, times, "a worker's report is not recorded yet, it will be sent again");
            }
            tokio::time::sleep(pauses.next_pause()).await;
        }
    }
}

/// Decides what the worker does after this error, and logs errors that are final.
fn after_failure(task: TaskId, error: &ExecuteError) -> AfterFailure {
    match error {
        ExecuteError::Rejected(_) => AfterFailure::Refused,
        ExecuteError::Append(AppendError::Invalid(reason)) => {
            error!(%task, reason, "the end of an attempt is not recorded: it is not a valid append");
            AfterFailure::Refused
        }
        ExecuteError::Append(AppendError::ReadOnly(reason)) => {
            error!(%task, reason, "the end of an attempt is not recorded: the log accepts no more writes");
            AfterFailure::LogReadOnly
        }
        ExecuteError::Read(reason @ (ReadError::Damaged(_) | ReadError::Unknown { .. })) => {
            error!(%task, %reason, "the end of an attempt is not recorded: the task's events can't be read");
            AfterFailure::Refused
        }
        ExecuteError::Append(_) | ExecuteError::Read(ReadError::Unavailable(_)) | ExecuteError::Busy(_) => {
            AfterFailure::Retry(error.to_string())
        }
    }
}
