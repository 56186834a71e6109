//! The leases that this worker holds, and their deadlines.
//!
//! A response contains how much time is left to a lease, counted from the moment when the server sent the response. The
//! clocks of the two machines are not compared. The deadline that the worker computes must not be later than the real
//! one, but the worker doesn't know when the response was sent. So it computes the deadline in one of two ways:
//!
//! - The response to a heartbeat is sent after the heartbeat. So its time is counted from the sending of the heartbeat.
//! - A request for leases may wait half a minute for a task, which is longer than the time of many leases. So its time
//!   is counted from the arrival of the response, and only half of it is used; the other half is the margin for the
//!   transport of the response. The first heartbeat, which is sent at once, replaces this deadline if its
//!   own deadline is later.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::protocol::{HeartbeatItem, HeartbeatResponse, LeaseDirective};
use crate::task::event::Progress;
use crate::task::{TaskId, Timestamp};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::latch::Latch;

/// The attempt of each lease, by the text of the lease. A lease stays here until none of the attempt's code runs any more.
#[derive(Default)]
pub(super) struct HeldLeases {
    held: Mutex<HashMap<String, HeldLease>>,
    /// Notified when a lease was added, so that a heartbeat names the lease.
    pub lease_added: Notify,
    /// Notified when a lease was added, so that the timer watches its deadline.
    pub deadline_added: Notify,
    /// Notified when a lease was removed, so that its slot is used again.
    pub lease_removed: Notify,
    /// Notified when a lease has progress to send.
    pub has_progress: Notify,
}

struct HeldLease {
    attempt: Arc<Attempt>,
    deadline: Instant,
    /// The last directive that the worker has received.
    last_directive: Option<String>,
    /// Progress that is to be sent.
    progress: Option<Progress>,
    /// The time of the last progress that was sent.
    progress_sent: Option<Timestamp>,
    /// Whether the attempt's end is being reported. Then only the result of the report decides whether the lease was
    /// lost, and a directive `lost` is ignored.
    is_ending: bool,
}

impl HeldLeases {
    /// Adds a lease whose response has just arrived. `time_left` is the time in the response.
    pub fn add(&self, lease: String, attempt: Arc<Attempt>, time_left: Duration) {
        let deadline = Instant::now() + time_left / 2;
        let held = HeldLease {
            attempt,
            deadline,
            last_directive: None,
            progress: None,
            progress_sent: None,
            is_ending: false,
        };
        self.lock().insert(lease, held);
        self.lease_added.notify_one();
        self.deadline_added.notify_one();
    }

    pub fn remove(&self, lease: &str) {
        self.lock().remove(lease);
        self.lease_removed.notify_one();
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn attempts(&self) -> Vec<Arc<Attempt>> {
        self.lock().values().map(|held| Arc::clone(&held.attempt)).collect()
    }

    /// The latches `finished` of the task's attempts whose code may still run here.
    pub fn unfinished(&self, task: TaskId) -> Vec<Latch> {
        let held = self.lock();
        held.values().filter(|held| held.attempt.task == task).map(|held| held.attempt.finished.clone()).collect()
    }

    pub fn set_progress(&self, lease: &str, progress: Progress) {
        if let Some(held) = self.lock().get_mut(lease) {
            held.progress = Some(progress);
            self.has_progress.notify_one();
        }
    }

    pub fn mark_ending(&self, lease: &str) {
        if let Some(held) = self.lock().get_mut(lease) {
            held.is_ending = true;
        }
    }

    /// Returns the item of the next heartbeat for each lease that is not lost, and the time until the first of them ends.
    pub fn heartbeat_items(&self) -> (Vec<HeartbeatItem>, Duration) {
        let held = self.lock();
        let not_lost = held.iter().filter(|(_, held)| !held.attempt.is_lost());
        let first = not_lost.clone().map(|(_, held)| held.deadline).min();
        let time_left = first.map_or(Duration::ZERO, |first| first.saturating_duration_since(Instant::now()));
        let item = |(lease, held): (&String, &HeldLease)| HeartbeatItem {
            lease: lease.clone(),
            progress: None,
            seen: held.last_directive.clone(),
        };
        (not_lost.map(item).collect(), time_left)
    }

    /// Whether the worker holds a lease that is not among `named`.
    pub fn has_lease_not_in(&self, named: &HashSet<String>) -> bool {
        self.lock().iter().any(|(lease, held)| held.is_running() && !named.contains(lease))
    }

    /// Takes the progress that is to be sent now.
    pub fn take_progress(&self) -> Vec<HeartbeatItem> {
        let mut held = self.lock();
        let running = held.iter_mut().filter(|(_, held)| held.is_running());
        let take_progress = |(lease, held): (&String, &mut HeldLease)| {
            held.progress.take().and_then(|progress| held.progress_item(lease, progress))
        };
        running.filter_map(take_progress).collect()
    }

    /// Returns a heartbeat's item with the last progress of an attempt that ends, unless this progress was sent before.
    pub fn take_last_progress(&self, lease: &str, last: Option<&Progress>) -> Option<HeartbeatItem> {
        self.lock().get_mut(lease)?.progress_item(lease, last?.clone())
    }

    /// Stores the progress again, after a heartbeat with it failed.
    pub fn restore_progress(&self, unsent: &[HeartbeatItem]) {
        let mut held = self.lock();
        for item in unsent {
            if let Some(held) = held.get_mut(&item.lease) {
                held.progress_sent = None;
                held.progress = held.progress.take().or_else(|| held.attempt.progress());
            }
        }
        self.has_progress.notify_one();
    }

    /// Applies the response to a heartbeat. `named` are the leases in the heartbeat, and `sent` is when it was sent. A
    /// second call with the same response changes nothing.
    pub fn apply(&self, named: &[String], response: HeartbeatResponse, sent: Instant) {
        let mut held = self.lock();
        if let Some(left_ms) = response.left_ms {
            let deadline = sent + Duration::from_millis(left_ms);
            for lease in named {
                if let Some(held) = held.get_mut(lease) {
                    held.deadline = held.deadline.max(deadline);
                }
            }
        }
        for LeaseDirective { lease, directive } in response.directives {
            let Some(held) = held.get_mut(&lease) else { continue };
            match directive.as_str() {
                "cancel" => held.attempt.request_cancel(),
                "interrupt" => held.attempt.request_interrupt(),
                "lost" if !held.is_ending => held.attempt.lose(),
                // After `drain` the server stops and starts again, and the attempts continue. A directive that a later
                // version of the server adds has no effect here. All of them are named as seen in the next heartbeat.
                _ => {}
            }
            held.last_directive = Some(directive);
        }
    }

    /// Returns the first deadline of the leases whose attempts run.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.lock().values().filter(|held| held.is_running()).map(|held| held.deadline).min()
    }

    /// Stops the attempts whose leases were not renewed in time. Another worker may hold these leases by now.
    pub fn lose_overdue(&self, now: Instant) {
        for held in self.lock().values().filter(|held| held.is_running() && held.deadline <= now) {
            tracing::warn!(task = %held.attempt.task, "no heartbeat has renewed the lease in time: the attempt is stopped");
            held.attempt.lose();
        }
    }

    /// A poisoned lock is used all the same: each change is one assignment, so a panic leaves no change incomplete.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, HeldLease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HeldLease {
    fn is_running(&self) -> bool {
        !self.is_ending && !self.attempt.is_lost()
    }

    /// Returns a heartbeat's item with this progress; `None` if the progress was sent before or is empty.
    fn progress_item(&mut self, lease: &str, progress: Progress) -> Option<HeartbeatItem> {
        let is_empty = progress.fraction.is_none() && progress.message.is_none();
        if is_empty || self.progress_sent == Some(progress.at) {
            return None;
        }
        self.progress_sent = Some(progress.at);
        Some(HeartbeatItem {
            lease: lease.to_owned(),
            progress: Some(progress.into()),
            seen: self.last_directive.clone(),
        })
    }
}
