//! Heartbeats for unknown leases. Another server may have granted such a lease a moment ago, and this server may not have
//! received its `Started` event yet. Then it must not answer that the lease is lost.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::lease_table::HeartbeatDirectives;
use crate::dispatch::messages::Heartbeat;
use crate::dispatch::servers::AttemptId;
use crate::projection::reader::ViewsReader;
use crate::store::{EventStore, StreamName};
use crate::task::Revision;

impl Dispatcher {
    /// Renews the leases of a heartbeat. If the views don't show one of the attempts yet, this server first reads the log and waits
    /// until the views show what it holds.
    pub(in crate::dispatch::dispatcher) fn restore_and_renew(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        let unknown = self.restore_known(&heartbeat);
        let Some(cluster) = self.cluster.as_ref().filter(|_| !unknown.is_empty()) else {
            return self.renew(heartbeat, ctx);
        };
        let reading = wait_until_received(cluster.store.clone(), self.reader.clone(), unknown);
        ctx.spawn(reading.into_actor(self).map(|are_received, this, ctx| {
            if are_received {
                this.restore_known(&heartbeat);
                return this.renew(heartbeat, ctx);
            }
            // The attempts are still unknown, so the answer says neither that the leases are renewed nor that they are lost. The
            // worker sends another heartbeat. If the client is gone, the answer is dropped.
            let _ = heartbeat.answer.send(HeartbeatDirectives { directives: Vec::new(), left: Some(Duration::ZERO) });
        }));
    }

    /// Restores the leases of this heartbeat that the views show. Returns the attempts that the views don't show yet.
    fn restore_known(&mut self, heartbeat: &Heartbeat) -> Vec<AttemptId> {
        let mut unknown = Vec::new();
        for lease in &heartbeat.leases {
            if self.cluster.is_none() || self.leases.has_lease(lease.task, lease.attempt) {
                continue;
            }
            let row = self.reader.views().get(lease.task).cloned();
            match row.filter(|row| row.attempt() >= lease.attempt) {
                Some(row) if row.status().is_active() => self.restore_lease(&row, Instant::now()),
                Some(_) => {}
                None => unknown.push((lease.task, lease.attempt)),
            }
        }
        unknown
    }
}

/// Reads the streams of these attempts' tasks, and waits until the views show their last events. False if the log can't be read
/// or the views don't show an event in time.
async fn wait_until_received(store: EventStore, reader: ViewsReader, attempts: Vec<AttemptId>) -> bool {
    for (task, _) in attempts {
        let Ok(events) = store.read_for_decision(&StreamName::task(task), Revision(0)).await else { return false };
        if let Some(last) = events.last()
            && !reader.wait_for_revision(task, last.revision).await
        {
            return false;
        }
    }
    true
}
