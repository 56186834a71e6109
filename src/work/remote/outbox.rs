//! Finishes that wait to be sent.
//!
//! They go to the server in batches, the oldest first. One that the server doesn't take must hold up no other, so each waits
//! for its own next try. Where a whole request fails, one of its finishes may be the reason: the next request holds half as
//! many, until the reason stands alone. Each request that is answered doubles the number again.

use std::time::Instant;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::http::RETRIES;
use super::wire::Problem;
use crate::task::backoff::BackOff;
use crate::task::deadlines::DeadlineQueue;
use crate::task::event::Progress;

/// Finishes in one request; the server takes no more.
const BATCH_MAX: usize = 1000;
/// Bytes in one request, well below the 16 MiB that the server takes.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// One end on its way to the server.
pub(super) struct PendingFinish {
    pub lease: String,
    pub item: Box<RawValue>,
    /// The attempt's last progress.
    pub progress: Option<Progress>,
    answer: oneshot::Sender<Result<(), Problem>>,
    retries: BackOff,
}

impl PendingFinish {
    /// A finish, and the server's answer to it once there is one. Nothing comes where the worker is dropped.
    pub fn new(
        lease: String,
        item: Box<RawValue>,
        progress: Option<Progress>,
    ) -> (Self, oneshot::Receiver<Result<(), Problem>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { lease, item, progress, answer, retries: RETRIES }, receiver)
    }

    pub fn answer(self, answer: Result<(), Problem>) {
        // Without a receiver the worker was dropped.
        let _ = self.answer.send(answer);
    }
}

/// See the module.
pub(super) struct Outbox {
    queue: DeadlineQueue<Instant, u64, PendingFinish>,
    last_id: u64,
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

    /// A request was answered: the next one may hold twice as many finishes.
    pub fn grow_batches(&mut self) {
        self.batch_limit = (self.batch_limit * 2).min(BATCH_MAX);
    }

    /// Puts back a finish that the server can't take now.
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

    /// Puts back a batch whose request was refused because of some finish in it, to be sent at once in smaller requests.
    pub fn split_batch(&mut self, batch: Vec<PendingFinish>, now: Instant) {
        self.batch_limit = (batch.len() / 2).max(1);
        for finish in batch {
            self.push(finish, now);
        }
    }
}
