//! Foreign work: the tasks and timers in the shares of other servers ([`shares`](crate::dispatch::shares)). This server does it
//! after a delay, if no other server has done it before.

use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};

use crate::dispatch::task_timers::TaskTimer;
use crate::task::deadlines::DeadlineQueue;
use crate::task::{Status, TaskId};
use crate::views::Row;

use super::Cluster;
use crate::dispatch::dispatcher::Dispatcher;

/// How long a queued task is left to the server of its share. After that, idle workers of this server may get it.
const TASK_DELAY: Duration = Duration::from_secs(2);
/// How long a due timer is left to the server of its share.
const TIMER_DELAY: Duration = Duration::from_secs(5);
/// The interval at which idle workers get foreign tasks.
const ADMIT_INTERVAL: Duration = Duration::from_millis(500);

/// The work that is left to other servers for now.
#[derive(Default)]
pub(super) struct ForeignWork {
    /// The queued tasks, and until when each is left to its server.
    tasks: DeadlineQueue<Instant, TaskId>,
}

impl Cluster {
    /// Defers a task that is queued and in another server's share: idle workers of this server may get it after a delay.
    /// Returns whether the task was deferred.
    pub(in crate::dispatch::dispatcher) fn defer_foreign(&mut self, row: &Row) -> bool {
        let is_deferred =
            row.status() == Status::Queued && !self.shares.is_task_in_own_share(row.id().uuid(), row.kind());
        if is_deferred {
            self.foreign.tasks.set(row.id(), Instant::now() + TASK_DELAY, ());
        } else if row.status() != Status::Queued {
            self.foreign.tasks.remove(row.id());
        }
        is_deferred
    }
}

impl Dispatcher {
    /// Starts the interval at which idle workers get foreign tasks.
    pub(super) fn begin_admitting_foreign(ctx: &mut Context<Self>) {
        ctx.run_interval(ADMIT_INTERVAL, Self::start_ready);
    }

    /// Admits foreign tasks whose delay is over to the run queue, at most as many as there are idle workers. Returns whether a
    /// task was admitted.
    pub(in crate::dispatch::dispatcher) fn admit_foreign(&mut self) -> bool {
        let idle = self.idle_capacity();
        let Some(cluster) = self.cluster.as_mut().filter(|_| idle > 0) else { return false };
        let admitted = cluster.foreign.tasks.take_due(Instant::now(), idle);
        let mut queue = self.queue_and_offers.run_queue();
        for (task, ()) in &admitted {
            queue.admit(*task);
        }
        !admitted.is_empty()
    }

    /// The number of attempts that the workers of this server could take now.
    fn idle_capacity(&self) -> usize {
        let waiting = self.waiting_lease_requests.iter().map(|waiting| waiting.max);
        waiting.chain([self.free_slots()]).fold(0, usize::saturating_add)
    }

    /// Returns the due timers that this server acts on now. A timer in another server's share is postponed once. If no event
    /// resets it by then, this server acts on it when it is due again.
    pub(in crate::dispatch::dispatcher) fn postpone_foreign(
        &mut self,
        due: Vec<(TaskId, TaskTimer)>,
    ) -> Vec<(TaskId, TaskTimer)> {
        let Some(cluster) = &self.cluster else { return due };
        let until = Instant::now() + TIMER_DELAY;
        let is_own =
            |(task, timer): &(TaskId, TaskTimer)| timer.was_postponed || cluster.shares.is_in_own_share(task.uuid());
        let (own, foreign): (Vec<_>, Vec<_>) = due.into_iter().partition(is_own);
        for (task, timer) in foreign {
            self.task_timers.postpone(task, timer, until);
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::dispatch::shares::Shares;
    use crate::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, codec, new_id, now};
    use crate::task::{Position, Revision};
    use crate::views::Views;

    const CREATED: &str = include_str!("../../../../events/Created/v1.example.json");
    const STARTED: &str = include_str!("../../../../events/Started/v1.example.json");

    fn event(kind: &str, example: &str) -> NewEvent {
        let meta = Meta {
            actor: "mira".to_owned(),
            via: Via::Http,
            correlation_id: new_id(),
            causation_id: None,
            request_id: None,
        };
        let data = RawValue::from_string(example.trim().to_owned()).unwrap();
        NewEvent { id: new_id(), time: now(), meta, event: codec::decode(kind, 1, data.get()).unwrap() }
    }

    #[actix_rt::test]
    async fn a_task_of_another_server_is_forgotten_when_it_has_started_also_where_no_worker_is_idle_here() {
        let (store, shares, task) = (EventStore::memory(), Shares::default(), TaskId::from_uuid(new_id()));
        // The workers of the other server alone execute any kind.
        shares.set((Uuid::from_u128(1), Some(HashSet::new())), vec![(Uuid::from_u128(2), None)]);
        let mut cluster = Cluster::new(store.clone(), shares, Duration::from_secs(30));
        let mut views = Views::default();
        let expected = [Expected::NoStream, Expected::Revision(Revision(0))];
        let events = [event("Created", CREATED), event("Started", STARTED)];
        let mut are_deferred = Vec::new();
        for (expected, event) in expected.into_iter().zip(events) {
            store.append(Append { stream: StreamName::task(task), expected, events: vec![event] }).await.unwrap();
            let last = store.read_all(Position(views.position().0), 1).await.unwrap().remove(0);
            views.apply(&last);
            cluster.defer_foreign(&views.get(task).unwrap());
            are_deferred.push(cluster.foreign.tasks.next_deadline().is_some());
        }
        assert_eq!(are_deferred, [true, false]);
    }
}
