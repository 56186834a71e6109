//! Heartbeats for unknown leases. Another server may have granted such a lease a moment ago, and this server may not have
//! received its `Started` event yet. Then it must not answer that the lease is lost.

use std::borrow::Cow;
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
    /// Handles a heartbeat for attempts that the views don't show yet (`unknown`): reads the log, waits until the views show
    /// what the log holds, and then renews the leases.
    pub(in crate::dispatch::dispatcher) fn renew_unknown_leases(
        &mut self,
        heartbeat: Heartbeat,
        unknown: Vec<AttemptId>,
        ctx: &mut Context<Self>,
    ) {
        let Some(cluster) = &self.cluster else { return };
        let reading = wait_until_received(cluster.store.clone(), self.reader.clone(), unknown);
        ctx.spawn(reading.into_actor(self).map(|are_received, this, ctx| {
            if are_received {
                this.restore_known_leases(&heartbeat);
                return this.renew_leases(heartbeat, ctx);
            }
            // The attempts are still unknown, so the answer says neither that the leases are renewed nor that they are lost.
            // The worker sends another heartbeat. If the client is gone, the answer is dropped.
            let _ =
                heartbeat.caller.send(HeartbeatDirectives { directives: Vec::new(), time_left: Some(Duration::ZERO) });
        }));
    }

    /// Restores the leases of this heartbeat that the views show and the lease table lacks. Returns the attempts that the views
    /// don't show yet. Without a cluster the table has all leases, and nothing is returned.
    pub(in crate::dispatch::dispatcher) fn restore_known_leases(&mut self, heartbeat: &Heartbeat) -> Vec<AttemptId> {
        let mut unknown = Vec::new();
        for lease in &heartbeat.leases {
            if self.cluster.is_none() || self.leases.has_lease(lease.task, lease.attempt) {
                continue;
            }
            let row = self.reader.views().get(lease.task).map(Cow::into_owned);
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
