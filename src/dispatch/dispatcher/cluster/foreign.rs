//! The work that is in other servers' shares: this server does it after a while, in case they don't.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use actix::{AsyncContext, Context};

use crate::store::now;
use crate::task::deadlines::DeadlineQueue;
use crate::task::{Status, TaskId};
use crate::views::{Row, Timer};

use super::Cluster;
use crate::dispatch::dispatcher::Dispatcher;

/// How long a queued task is left to its server. After that, workers that have nothing else to do get it.
const OFFER: Duration = Duration::from_secs(2);
/// How long a timer that is due is left to its server.
const TIMER: Duration = Duration::from_secs(5);
/// How often idle workers are looked for.
const ADMIT: Duration = Duration::from_millis(500);

/// What is left to other servers.
#[derive(Default)]
pub(super) struct Foreign {
    /// Queued tasks, until when.
    tasks: DeadlineQueue<Instant, TaskId>,
    /// Timers that were due and come back.
    timers: HashMap<TaskId, Timer>,
}

impl Cluster {
    /// Whether the task is queued and in another server's share; then it is left to that one for a while.
    pub(in crate::dispatch::dispatcher) fn hold(&mut self, row: &Row) -> bool {
        self.foreign.timers.remove(&row.id());
        let is_held = row.status() == Status::Queued && !self.shares.is_own_task(row.id().uuid(), row.kind());
        if is_held {
            self.foreign.tasks.set(row.id(), Instant::now() + OFFER, ());
        } else if row.status() != Status::Queued {
            self.foreign.tasks.remove(row.id());
        }
        is_held
    }
}

impl Dispatcher {
    pub(super) fn begin_admitting(ctx: &mut Context<Self>) {
        ctx.run_interval(ADMIT, Self::start_ready);
    }

    /// Lets idle workers have tasks of other servers' shares that still wait; whether there are any.
    pub(in crate::dispatch::dispatcher) fn admit_foreign(&mut self) -> bool {
        let idle = self.idle();
        let Some(cluster) = self.cluster.as_mut().filter(|_| idle > 0) else { return false };
        let admitted = cluster.foreign.tasks.take_due(Instant::now(), idle);
        let mut queue = self.capacity.pending();
        for (task, ()) in &admitted {
            queue.admit(*task);
        }
        !admitted.is_empty()
    }

    /// How many more attempts the workers would take now.
    fn idle(&self) -> usize {
        let waiting = self.waiting.iter().map(|waiting| waiting.max);
        waiting.chain([self.free_slots()]).fold(0, usize::saturating_add)
    }

    /// Those of the due timers that this server acts on now. One in another server's share comes back later: if no event
    /// resets it before, this server acts on it then.
    pub(in crate::dispatch::dispatcher) fn postpone_foreign(
        &mut self,
        due: Vec<(TaskId, Timer)>,
    ) -> Vec<(TaskId, Timer)> {
        let Some(cluster) = &mut self.cluster else { return due };
        let until = now().plus(TIMER);
        let is_now = |(task, timer): &(TaskId, Timer)| {
            if cluster.foreign.timers.remove(task).is_some_and(|former| former == *timer)
                || cluster.shares.is_own(task.uuid())
            {
                return true;
            }
            cluster.foreign.timers.insert(*task, *timer);
            self.capacity.pending().postpone(*task, *timer, until);
            false
        };
        due.into_iter().filter(is_now).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use serde_json::value::RawValue;
    use uuid::Uuid;

    use super::*;
    use crate::dispatch::shares::Shares;
    use crate::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via, codec, new_id};
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
        let mut left = Vec::new();
        for (expected, event) in expected.into_iter().zip(events) {
            store.append(Append { stream: StreamName::task(task), expected, events: vec![event] }).await.unwrap();
            let last = store.read_all(Position(views.position().0), 1).await.unwrap().remove(0);
            views.apply(&last);
            cluster.hold(views.get(task).unwrap());
            left.push(cluster.foreign.tasks.next_deadline().is_some());
        }
        assert_eq!(left, [true, false]);
    }
}
