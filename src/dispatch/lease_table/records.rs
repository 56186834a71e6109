//! The leases of a server of a cluster, and its records.

use std::time::Instant;

use super::LeaseTable;
use crate::dispatch::directive::Directive;
use crate::dispatch::servers::AttemptId;
use crate::task::TaskId;

impl LeaseTable {
    /// Has the heartbeat wait for a record where less than a third of a lease's time is left; whether it does.
    pub(super) fn await_record(&mut self, number: u64, held: &[(usize, TaskId)], now: Instant) -> bool {
        let is_short = held.iter().any(|(_, task)| !self.has_time(*task, now));
        match &mut self.records {
            Some(records) if is_short => records.awaiting.insert(number),
            Some(_) | None => false,
        }
    }

    /// Whether a third of the lease's time is left.
    fn has_time(&self, task: TaskId, now: Instant) -> bool {
        let Some(lease) = self.leases.get(&task) else { return true };
        self.deadlines.deadline(&task).is_some_and(|deadline| now + lease.ttl / 3 <= deadline)
    }

    /// Whether a heartbeat waits for a record.
    pub(in crate::dispatch) fn awaits_record(&self) -> bool {
        self.records.as_ref().is_some_and(|records| !records.awaiting.is_empty())
    }

    /// The attempts that a record must name: those of heartbeats since the last one, unless the heartbeat is older than the
    /// lease time.
    pub(in crate::dispatch) fn take_heard(&mut self, now: Instant) -> Vec<(AttemptId, Instant)> {
        let Some(records) = &mut self.records else { return Vec::new() };
        let heard = std::mem::take(&mut records.heard);
        let is_recent = |task: &TaskId, at: Instant| {
            self.leases.get(task).is_some_and(|lease| now.saturating_duration_since(at) < lease.ttl)
        };
        let heard = heard.into_iter().filter(|(task, (_, at))| is_recent(task, *at));
        heard.map(|(task, (attempt, at))| ((task, attempt), at)).collect()
    }

    /// The record that should have named them was not written: the next one must.
    pub(in crate::dispatch) fn restore_heard(&mut self, heard: Vec<(AttemptId, Instant)>) {
        let Some(records) = &mut self.records else { return };
        for ((task, attempt), at) in heard {
            records.heard.entry(task).or_insert((attempt, at));
        }
    }

    /// A record that was begun then, and names these attempts, is durable: the leases live on, and the heartbeats that waited
    /// for it are answered.
    pub(in crate::dispatch) fn recorded(&mut self, attempts: &[AttemptId], begun: Instant, now: Instant) {
        for (task, attempt) in attempts {
            if let Some(lease) = self.leases.get(task).filter(|lease| lease.attempt == *attempt) {
                let deadline = begun + lease.ttl;
                self.prolong(*task, deadline);
            }
        }
        let awaiting = self.records.iter().flat_map(|records| &records.awaiting);
        let is_served = |number: &u64| {
            self.heartbeats
                .get(number)
                .is_none_or(|waiting| waiting.held.iter().all(|(_, task)| self.has_time(*task, now)))
        };
        let served: Vec<u64> = awaiting.copied().filter(is_served).collect();
        for number in served {
            self.answer(number, Vec::new(), now);
        }
    }

    /// Another server's record has named the attempt.
    pub(in crate::dispatch) fn vouch(&mut self, (task, attempt): AttemptId, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&task).filter(|lease| lease.attempt == attempt) {
            lease.vouched = Some(now + lease.ttl);
        }
    }

    /// The directive `lost` for each lease of this heartbeat whose deadline has passed, and that no other server has named.
    pub(super) fn passed(&self, number: u64, now: Instant) -> Vec<(usize, Directive)> {
        let Some(waiting) = self.heartbeats.get(&number).filter(|_| self.records.is_some()) else { return Vec::new() };
        let is_over = |task: &TaskId| {
            let has_passed = |at: Option<Instant>| at.is_none_or(|at| at <= now);
            self.leases.get(task).is_some_and(|lease| has_passed(lease.vouched))
                && has_passed(self.deadlines.deadline(task))
        };
        let over = waiting.held.iter().filter(|(_, task)| is_over(task));
        over.map(|(place, _)| (*place, Directive::Lost)).collect()
    }
}
