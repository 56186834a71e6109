//! The leases that this worker holds.
//!
//! **How long a lease is held.** An answer says how much time is left to a lease, counted from the sending of the answer; no
//! clocks are compared. The worker must never believe that it has longer than that, but it doesn't know when the answer was
//! sent. A heartbeat's answer was sent no earlier than the heartbeat, so its time counts from the sending of the heartbeat.
//! A request for leases may wait half a minute until a task comes, longer than many leases live. Its time counts from the
//! arrival of the answer, and half of it is given up as a margin for the answer's way. The first heartbeat, which is sent at
//! once, replaces that.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::wire::{HeartbeatReply, LeaseDirective, LeaseHeartbeat};
use crate::task::event::Progress;
use crate::task::{TaskId, Timestamp};
use crate::work::worker::attempt::Attempt;

/// Lease → its attempt, until none of the attempt's code runs any more.
#[derive(Default)]
pub(super) struct HeldLeases {
    held: Mutex<HashMap<String, HeldLease>>,
    /// A lease was added, for the heartbeat that has to name it.
    pub added: Notify,
    /// A lease was added, for the timer that watches the deadlines.
    pub added_deadline: Notify,
    /// A lease was removed: a slot is free.
    pub removed: Notify,
    /// A lease has progress to send.
    pub has_progress: Notify,
}

struct HeldLease {
    attempt: Arc<Attempt>,
    deadline: Instant,
    /// The last directive that was received.
    seen: Option<String>,
    /// Progress to be sent.
    progress: Option<Progress>,
    /// The time of the last progress that was sent.
    progress_sent: Option<Timestamp>,
    /// The attempt's end is being reported: from now on only the answer to that says whether the lease was lost.
    is_ending: bool,
}

impl HeldLeases {
    /// Adds a lease with this much time left, when its answer has just arrived.
    pub fn add(&self, lease: String, attempt: Arc<Attempt>, left: Duration) {
        let deadline = Instant::now() + left / 2;
        let held = HeldLease { attempt, deadline, seen: None, progress: None, progress_sent: None, is_ending: false };
        self.held().insert(lease, held);
        self.added.notify_one();
        self.added_deadline.notify_one();
    }

    pub fn remove(&self, lease: &str) {
        self.held().remove(lease);
        self.removed.notify_one();
    }

    pub fn len(&self) -> usize {
        self.held().len()
    }

    pub fn attempts(&self) -> Vec<Arc<Attempt>> {
        self.held().values().map(|held| Arc::clone(&held.attempt)).collect()
    }

    /// The `finished` tokens of the task's attempts whose code may still run here.
    pub fn unfinished(&self, task: TaskId) -> Vec<CancellationToken> {
        let held = self.held();
        held.values().filter(|held| held.attempt.task == task).map(|held| held.attempt.finished.clone()).collect()
    }

    pub fn set_progress(&self, lease: &str, progress: Progress) {
        if let Some(held) = self.held().get_mut(lease) {
            held.progress = Some(progress);
            self.has_progress.notify_one();
        }
    }

    pub fn mark_ending(&self, lease: &str) {
        if let Some(held) = self.held().get_mut(lease) {
            held.is_ending = true;
        }
    }

    /// A heartbeat for each lease that is not lost, and the time that is left to the first of them.
    pub fn heartbeats(&self) -> (Vec<LeaseHeartbeat>, Duration) {
        let held = self.held();
        let ours = held.iter().filter(|(_, held)| !held.attempt.is_lost());
        let first = ours.clone().map(|(_, held)| held.deadline).min();
        let left = first.map_or(Duration::ZERO, |first| first.saturating_duration_since(Instant::now()));
        let heartbeat = |(lease, held): (&String, &HeldLease)| LeaseHeartbeat {
            lease: lease.clone(),
            progress: None,
            seen: held.seen.clone(),
        };
        (ours.map(heartbeat).collect(), left)
    }

    /// Whether a lease is held that is not among `named`.
    pub fn has_other_than(&self, named: &HashSet<String>) -> bool {
        self.held().iter().any(|(lease, held)| held.is_running() && !named.contains(lease))
    }

    /// Takes the progress that is to be sent now.
    pub fn take_progress(&self) -> Vec<LeaseHeartbeat> {
        let mut held = self.held();
        let running = held.iter_mut().filter(|(_, held)| held.is_running());
        let take = |(lease, held): (&String, &mut HeldLease)| {
            held.progress.take().and_then(|progress| held.progress_heartbeat(lease, progress))
        };
        running.filter_map(take).collect()
    }

    /// The last progress of an attempt that ends, unless it was sent.
    pub fn take_last_progress(&self, lease: &str, last: Option<&Progress>) -> Option<LeaseHeartbeat> {
        self.held().get_mut(lease)?.progress_heartbeat(lease, last?.clone())
    }

    /// The heartbeat with this progress was not answered: the progress is to be sent again.
    pub fn restore_progress(&self, unsent: &[LeaseHeartbeat]) {
        let mut held = self.held();
        for heartbeat in unsent {
            if let Some(held) = held.get_mut(&heartbeat.lease) {
                held.progress_sent = None;
                held.progress = held.progress.take().or_else(|| held.attempt.progress());
            }
        }
        self.has_progress.notify_one();
    }

    /// Applies the answer to a heartbeat that named `named` and was `sent` then. Applied twice it changes nothing.
    pub fn apply(&self, named: &[String], reply: HeartbeatReply, sent: Instant) {
        let mut held = self.held();
        if let Some(left_ms) = reply.left_ms {
            let deadline = sent + Duration::from_millis(left_ms);
            for lease in named {
                if let Some(held) = held.get_mut(lease) {
                    held.deadline = held.deadline.max(deadline);
                }
            }
        }
        for LeaseDirective { lease, directive } in reply.directives {
            let Some(held) = held.get_mut(&lease) else { continue };
            match directive.as_str() {
                "cancel" => held.attempt.request_cancel(),
                "interrupt" => held.attempt.request_interrupt(),
                "lost" if !held.is_ending => held.attempt.lose(),
                // `drain`: the server is about to stop; attempts go on, since it comes back. Directives of later servers
                // are only acknowledged as seen.
                _ => {}
            }
            held.seen = Some(directive);
        }
    }

    /// The first deadline of a lease whose attempt runs.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held().values().filter(|held| held.is_running()).map(|held| held.deadline).min()
    }

    /// Gives up the attempts whose leases have ended without a heartbeat: another worker may hold them by now.
    pub fn lose_overdue(&self, now: Instant) {
        for held in self.held().values().filter(|held| held.is_running() && held.deadline <= now) {
            tracing::warn!(task = %held.attempt.task, "no heartbeat got through in time: the attempt is given up");
            held.attempt.lose();
        }
    }

    /// A panic under the lock leaves nothing half done: each change is one assignment.
    fn held(&self) -> MutexGuard<'_, HashMap<String, HeldLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLease {
    fn is_running(&self) -> bool {
        !self.is_ending && !self.attempt.is_lost()
    }

    /// The heartbeat that carries this progress; none if it was sent before or is empty.
    fn progress_heartbeat(&mut self, lease: &str, progress: Progress) -> Option<LeaseHeartbeat> {
        let is_empty = progress.fraction.is_none() && progress.message.is_none();
        if is_empty || self.progress_sent == Some(progress.at) {
            return None;
        }
        self.progress_sent = Some(progress.at);
        Some(LeaseHeartbeat { lease: lease.to_owned(), progress: Some(progress.into()), seen: self.seen.clone() })
    }
}
