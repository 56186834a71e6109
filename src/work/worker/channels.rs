//! How the worker inside the process reports: by messages to the server's actors.

use std::fmt;
use std::time::Duration;

use actix::Recipient;
use tracing::{error, warn};
use uuid::Uuid;

use super::attempt::Attempt;
use super::report::{Reporter, stopped_unasked};
use crate::dispatch::messages::{Offer, Stopped};
use crate::projection::projector::ReportProgress;
use crate::store::{AppendError, Meta, ReadError, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::backoff::BackOff;
use crate::task::event::Progress;
use crate::task::{Command, TaskId};

/// The pauses between two tries to record a command.
const RETRIES: BackOff = BackOff::new(Duration::from_millis(250), Duration::from_secs(5));

/// The worker's name and the actors that it sends messages to.
#[derive(Clone)]
pub struct WorkerChannels {
    /// Its name, `local/<server>/<boot>`.
    pub worker: String,
    /// The write side, for all commands.
    pub execute: Recipient<Execute>,
    /// The dispatcher, for what the worker can execute.
    pub offer: Recipient<Offer>,
    /// The dispatcher, for slots that become free.
    pub stopped: Recipient<Stopped>,
    /// The projector, for progress.
    pub progress: Recipient<ReportProgress>,
}

impl fmt::Debug for WorkerChannels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerChannels").field("worker", &self.worker).finish_non_exhaustive()
    }
}

impl Reporter for WorkerChannels {
    fn send_progress(&self, attempt: &Attempt, progress: Progress) {
        // Left out where the projector has a backlog: later progress says more, and the last is part of the attempt's end.
        let _ = self.progress.try_send(ReportProgress { task: attempt.task, attempt: attempt.number, progress });
    }

    async fn send_command(&self, attempt: &Attempt, command: Command, give_up: impl Fn() -> bool + Send) -> bool {
        self.record(attempt.task, command, give_up).await
    }

    fn release(&self, attempt: &Attempt, settled: bool) {
        if settled {
            self.stopped.do_send(Stopped { task: attempt.task, attempt: attempt.number });
        }
    }
}

/// What follows a command that was not recorded.
enum Next {
    Retry(String),
    /// The rules rejected it, or the task's stream can't be read: the same command will never be recorded.
    Settled,
    /// The whole log takes no more writes: until the process restarts, no end of any attempt can be recorded.
    Unsettled,
}

impl WorkerChannels {
    async fn record(&self, task: TaskId, mut command: Command, give_up: impl Fn() -> bool) -> bool {
        let at = now();
        let correlation_id = Uuid::new_v4();
        let mut retries = RETRIES;
        loop {
            let meta = Meta {
                actor: self.worker.clone(),
                via: Via::Worker,
                correlation_id,
                causation_id: None,
                request_id: None,
            };
            let answer = self.execute.send(Execute { task, command: command.clone(), at, meta }).await;
            let error = match answer {
                Ok(Ok(_)) => return true,
                Ok(Err(error)) => error,
                // The mailbox is gone: the process is stopping.
                Err(_) => return false,
            };
            if let ExecuteError::Rejected(rejection) = &error
                && let Some(replacement) = stopped_unasked(command.clone(), rejection)
            {
                command = replacement;
                continue;
            }
            let why = match next(task, &error) {
                Next::Retry(why) => why,
                Next::Settled => return true,
                Next::Unsettled => return false,
            };
            if give_up() {
                return false;
            }
            warn!(%task, why, "a worker's report is not recorded yet, it will be sent again");
            tokio::time::sleep(retries.next_pause()).await;
        }
    }
}

fn next(task: TaskId, error: &ExecuteError) -> Next {
    match error {
        ExecuteError::Rejected(_) => Next::Settled,
        ExecuteError::Append(AppendError::ReadOnly(why)) => {
            error!(%task, why, "the end of an attempt is not recorded: the log takes no more writes");
            Next::Unsettled
        }
        ExecuteError::Read(why @ (ReadError::Damaged(_) | ReadError::Unknown { .. })) => {
            error!(%task, %why, "the end of an attempt is not recorded: the task's events can't be read");
            Next::Settled
        }
        ExecuteError::Append(_) | ExecuteError::Read(ReadError::Unavailable(_)) | ExecuteError::Busy(_) => {
            Next::Retry(error.to_string())
        }
    }
}
