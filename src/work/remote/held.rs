//! The leases that are held, and what each was told last.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::http::Reply;
use super::wire::{BeatOf, Beaten, Directed};
use crate::task::event::Progress;
use crate::task::{TaskId, Timestamp};
use crate::work::worker::attempt::Attempt;

/// Lease → what is held by it, until none of its code runs any more.
#[derive(Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<String, Held>>,
    /// One was added or has gone.
    pub changed: Notify,
    /// One has gone: a slot is free.
    pub freed: Notify,
    /// One has progress to tell.
    pub talks: Notify,
}

struct Held {
    attempt: Arc<Attempt>,
    deadline: Instant,
    /// The last directive that was heard.
    seen: Option<String>,
    /// What is to be told of its progress.
    said: Option<Progress>,
    /// When the last was said that was told.
    told: Option<Timestamp>,
    /// Its end is on the way: from now on only the answer to that says whether the lease was lost.
    ending: bool,
}

impl Leases {
    pub fn add(&self, lease: String, attempt: Arc<Attempt>, deadline: Instant) {
        let held = Held { attempt, deadline, seen: None, said: None, told: None, ending: false };
        self.held().insert(lease, held);
        self.changed.notify_one();
    }

    pub fn remove(&self, lease: &str) {
        self.held().remove(lease);
        self.freed.notify_one();
    }

    pub fn len(&self) -> usize {
        self.held().len()
    }

    pub fn attempts(&self) -> Vec<Arc<Attempt>> {
        self.held().values().map(|held| Arc::clone(&held.attempt)).collect()
    }

    /// The lives of attempts of this task whose code may still run here.
    pub fn formers(&self, task: TaskId) -> Vec<CancellationToken> {
        let held = self.held();
        held.values().filter(|held| held.attempt.task == task).map(|held| held.attempt.over.clone()).collect()
    }

    pub fn note(&self, lease: &str, progress: Progress) {
        if let Some(held) = self.held().get_mut(lease) {
            held.said = Some(progress);
            self.talks.notify_one();
        }
    }

    /// Its end is on the way.
    pub fn ends(&self, lease: &str) {
        if let Some(held) = self.held().get_mut(lease) {
            held.ending = true;
        }
    }

    /// A heartbeat for all that is ours as far as we know, and the time that is left to the first of them.
    pub fn beats(&self) -> (Vec<BeatOf>, Duration) {
        let held = self.held();
        let ours = held.iter().filter(|(_, held)| !held.attempt.is_lost());
        let first = ours.clone().map(|(_, held)| held.deadline).min();
        let left = first.map_or(Duration::ZERO, |first| first.saturating_duration_since(Instant::now()));
        let beat =
            |(lease, held): (&String, &Held)| BeatOf { lease: lease.clone(), progress: None, seen: held.seen.clone() };
        (ours.map(beat).collect(), left)
    }

    /// Whether a lease is held that is not among `named`.
    pub fn outgrew(&self, named: &HashSet<String>) -> bool {
        self.held().iter().any(|(lease, held)| !held.ending && !held.attempt.is_lost() && !named.contains(lease))
    }

    /// The progress that is to be told now; it counts as told.
    pub fn remarks(&self) -> Vec<BeatOf> {
        let mut held = self.held();
        let talking = held.iter_mut().filter(|(_, held)| !held.ending && !held.attempt.is_lost());
        talking.filter_map(|(lease, held)| held.said.take().and_then(|said| held.remark(lease, said))).collect()
    }

    /// The progress of an attempt that ends, unless it was told.
    pub fn last_remark(&self, lease: &str, last: Option<&Progress>) -> Option<BeatOf> {
        self.held().get_mut(lease)?.remark(lease, last?.clone())
    }

    /// The heartbeat with these remarks did not arrive: they are to be told again.
    pub fn untold(&self, remarks: &[BeatOf]) {
        let mut held = self.held();
        for remark in remarks {
            if let Some(held) = held.get_mut(&remark.lease) {
                held.told = None;
                held.said = held.said.take().or_else(|| held.attempt.progress());
            }
        }
        self.talks.notify_one();
    }

    /// What the server answered to a heartbeat that named `named`; heard twice it changes nothing.
    pub fn hear(&self, named: &[String], answer: Beaten, reply: &Reply) {
        let mut held = self.held();
        if let Some(deadline) = answer.deadline.map(|deadline| reply.by_our_clock(deadline)) {
            for lease in named {
                if let Some(held) = held.get_mut(lease) {
                    held.deadline = held.deadline.max(deadline);
                }
            }
        }
        for Directed { lease, directive } in answer.directives {
            let Some(held) = held.get_mut(&lease) else { continue };
            match directive.as_str() {
                "cancel" => held.attempt.ask(),
                "interrupt" => {
                    held.attempt.ask();
                    held.attempt.cut.cancel();
                }
                "lost" if !held.ending => held.attempt.lose(),
                // `drain`: the server goes, and gives no leases before it is back; what runs goes on. What a later server
                // may say is none of our business, but it wants to be seen.
                _ => {}
            }
            held.seen = Some(directive);
        }
    }

    /// Nobody answered until past the deadline: somebody else may hold the lease by now.
    pub fn lose_overdue(&self) {
        let now = Instant::now();
        for held in self.held().values().filter(|held| held.deadline < now && !held.ending) {
            if !held.attempt.is_lost() {
                tracing::warn!(task = %held.attempt.task, "no heartbeat got through in time: the attempt is given up");
                held.attempt.lose();
            }
        }
    }

    /// A panic under the lock leaves nothing half done: each change is one assignment.
    fn held(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// None where it was told before, or says nothing.
    fn remark(&mut self, lease: &str, said: Progress) -> Option<BeatOf> {
        let nothing = said.fraction.is_none() && said.message.is_none();
        if nothing || self.told == Some(said.at) {
            return None;
        }
        self.told = Some(said.at);
        Some(BeatOf { lease: lease.to_owned(), progress: Some(said.into()), seen: self.seen.clone() })
    }
}
