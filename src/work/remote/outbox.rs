//! The finishes that wait to be sent.
//!
//! They are sent in batches, the oldest first. A finish that the server can't record now must not delay the others, so
//! each finish has its own time for the next try. If a request fails as a whole, one of its finishes may be the cause.
//! Then the next request has half as many finishes, until the cause is alone in its request. Each request that succeeds
//! doubles the number again.

use std::time::Instant;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::http::RETRIES;
use super::protocol::ServerProblem;
use crate::task::backoff::BackOff;
use crate::task::deadlines::DeadlineQueue;
use crate::task::event::Progress;

/// The most finishes in one request; the server accepts no more.
const BATCH_MAX: usize = 1000;
/// The most bytes of finishes in one request. It is well below the 16 MiB that the server accepts.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// A finish that the server has not recorded yet.
pub(super) struct PendingFinish {
    pub lease: String,
    pub item: Box<RawValue>,
    /// The attempt's last progress.
    pub progress: Option<Progress>,
    result_sender: oneshot::Sender<Result<(), ServerProblem>>,
    retries: BackOff,
}

impl PendingFinish {
    /// Makes a finish, and the receiver of the server's result. If the worker is dropped, the receiver ends without a
    /// result.
    pub fn new(
        lease: String,
        item: Box<RawValue>,
        progress: Option<Progress>,
    ) -> (Self, oneshot::Receiver<Result<(), ServerProblem>>) {
        let (result_sender, receiver) = oneshot::channel();
        (Self { lease, item, progress, result_sender, retries: RETRIES }, receiver)
    }

    /// Passes the server's final result to the reporter of the attempt.
    pub fn complete(self, result: Result<(), ServerProblem>) {
        // It fails if the receiver is gone because the worker was dropped.
        let _ = self.result_sender.send(result);
    }
}

/// The queue of finishes, ordered by the time of the next try; see the module.
pub(super) struct Outbox {
    queue: DeadlineQueue<Instant, u64, PendingFinish>,
    last_id: u64,
    /// The most finishes in the next request.
    batch_limit: usize,
}

impl Outbox {
    pub fn new() -> Self {
        Self { queue: DeadlineQueue::default(), last_id: 0, batch_limit: BATCH_MAX }
    }

    /// Adds a finish to be sent at `due`.
    pub fn push(&mut self, finish: PendingFinish, due: Instant) {
        self.last_id += 1;
        self.queue.set(self.last_id, due, finish);
    }

    /// When the next finish is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.next_deadline()
    }

    /// Takes the finishes of the next request.
    pub fn take_batch(&mut self, now: Instant) -> Vec<PendingFinish> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.batch_limit
            && let Some((id, finish)) = self.queue.take_due(now, 1).pop()
        {
            bytes += finish.item.get().len();
            if bytes > BYTES_MAX && !batch.is_empty() {
                self.queue.set(id, now, finish);
                break;
            }
            batch.push(finish);
        }
        batch
    }

    /// Doubles the number of finishes in a request, after a request that succeeded.
    pub fn grow_batches(&mut self) {
        self.batch_limit = (self.batch_limit * 2).min(BATCH_MAX);
    }

    /// Puts back a finish that the server can't record now.
    pub fn retry(&mut self, mut finish: PendingFinish, now: Instant) {
        let due = now + finish.retries.next_pause();
        self.push(finish, due);
    }

    /// Puts back a batch whose request failed as a whole, to be sent after a pause and in smaller requests.
    pub fn retry_batch(&mut self, batch: Vec<PendingFinish>, now: Instant) {
        self.batch_limit = (batch.len() / 2).max(1);
        for finish in batch {
            self.retry(finish, now);
        }
    }

    /// Puts back a batch whose request was refused because of one of its finishes, to be sent at once in smaller requests.
    pub fn split_batch(&mut self, batch: Vec<PendingFinish>, now: Instant) {
        self.batch_limit = (batch.len() / 2).max(1);
        for finish in batch {
            self.push(finish, now);
        }
    }
}
