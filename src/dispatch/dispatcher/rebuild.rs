//! Builds the dispatcher's tables from the views.

use std::time::Instant;

use super::Dispatcher;
use super::timers::moment;
use crate::dispatch::directive::Directive;
use crate::dispatch::lease_table::NewLease;
use crate::task::TaskId;
use crate::task::event::Rung;
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::views::{Filter, Row, Snapshot, Views};

impl Dispatcher {
    /// Builds the tables anew from the views: when the actor starts, and when it has missed events because it was too slow.
    ///
    /// Leases that are in the table keep their deadlines. Other leases, from before a restart, get fresh ones. The workers of
    /// attempts that have ended meanwhile get the directive `lost`, which has no effect if the worker itself ended the attempt.
    /// `is_first`: the actor starts.
    pub(super) fn rebuild(&mut self, is_first: bool) {
        let (snapshot, queues, leases, local) = {
            let views = self.reader.views();
            let leases = ended_attempts(&views, self.leases.attempts());
            (
                views.snapshot(),
                views.paused_queues().clone(),
                leases,
                ended_attempts(&views, self.in_flight.executing()),
            )
        };
        self.position = snapshot.position();
        let open = Filter::of_open_tasks();
        self.in_flight.forget_held_positions();
        {
            let mut queue = self.queue_and_offers.reset_run_queue();
            queue.pause_all(&queues);
            // A new queue doesn't change for a task that is final. On a cluster, such a task must end what was postponed for it.
            let all = Filter::default();
            for row in snapshot.matching(if self.cluster.is_some() { &all } else { &open }) {
                if self.cluster.as_mut().is_some_and(|cluster| cluster.defer_foreign(&row)) {
                    queue.apply_change_deferred(None, &row, None);
                } else {
                    queue.apply_change(None, &row, None);
                }
            }
        }
        self.restore_task_timers(&snapshot, is_first);
        let now = Instant::now();
        for (task, attempt) in leases {
            self.leases.lose(task, attempt, now);
        }
        for (task, _) in local {
            self.send_local_directive(task, Directive::Lost);
        }
        self.track_active_attempts(&snapshot);
        for row in snapshot.matching(&open).filter(|row| row.status().is_active()) {
            self.restore_lease(&row, now);
        }
    }

    fn restore_task_timers(&mut self, snapshot: &Snapshot, is_first: bool) {
        let former = std::mem::take(&mut self.task_timers);
        let now = moment();
        for row in snapshot.matching(&Filter::of_open_tasks()) {
            self.task_timers.restore(&row, &former, is_first, now);
        }
    }

    /// Restores the lease of an active attempt outside the process, and sends the directive of its cancel's current rung.
    pub(super) fn restore_lease(&mut self, row: &Row, now: Instant) {
        if let (Some(worker), Some(secret_hash)) = (row.worker(), row.lease_hash())
            && !worker.starts_with(LOCAL_WORKER_PREFIX)
        {
            let lease_time = self.policies.lease_time(row.kind());
            let deadline = if self.cluster.is_some() { now } else { now + lease_time };
            let lease = NewLease {
                attempt: row.attempt(),
                worker: worker.into(),
                secret_hash: secret_hash.into(),
                lease_time,
                deadline,
            };
            self.leases.insert(row.id(), lease, now);
        }
        if let Some(cancel) = row.cancel() {
            self.send_directive(
                row.id(),
                if cancel.rung == Rung::Ask { Directive::Cancel } else { Directive::Interrupt },
            );
        }
    }
}

/// The attempts among these that have ended, as the views show. An attempt that the views don't show yet has not ended.
fn ended_attempts(views: &Views, attempts: impl IntoIterator<Item = (TaskId, u32)>) -> Vec<(TaskId, u32)> {
    let is_over =
        |row: &Row, attempt| row.attempt() > attempt || (row.attempt() == attempt && !row.status().is_active());
    let attempts = attempts.into_iter();
    attempts.filter(|(task, attempt)| views.get(*task).is_some_and(|row| is_over(&row, *attempt))).collect()
}
