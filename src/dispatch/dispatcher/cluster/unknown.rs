//! Heartbeats for leases that another server has granted a moment ago: this server may not have received their start yet, and
//! must not answer that they are lost.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use crate::dispatch::dispatcher::Dispatcher;
use crate::dispatch::lease_table::HeartbeatReply;
use crate::dispatch::messages::Heartbeat;
use crate::dispatch::servers::AttemptId;
use crate::projection::reader::ViewsReader;
use crate::store::{EventStore, StreamName};
use crate::task::Revision;

impl Dispatcher {
    /// Renews the leases of a heartbeat, after a look at the log where this server's views don't know one of them yet.
    pub(in crate::dispatch::dispatcher) fn renew_known(&mut self, heartbeat: Heartbeat, ctx: &mut Context<Self>) {
        let unknown = self.unknown(&heartbeat);
        let Some(cluster) = self.cluster.as_ref().filter(|_| !unknown.is_empty()) else {
            return self.renew(heartbeat, ctx);
        };
        let look = are_received(cluster.store.clone(), self.read.clone(), unknown);
        ctx.spawn(look.into_actor(self).map(|are_received, this, ctx| {
            if are_received {
                this.unknown(&heartbeat);
                return this.renew(heartbeat, ctx);
            }
            // The worker keeps the time that it has, and sends another heartbeat. A client that has gone needs no answer.
            let _ = heartbeat.answer.send(HeartbeatReply { directives: Vec::new(), left: Some(Duration::ZERO) });
        }));
    }

    /// The attempts of the heartbeat whose start the views don't show. Leases that they do show are taken over.
    fn unknown(&mut self, heartbeat: &Heartbeat) -> Vec<AttemptId> {
        let mut unknown = Vec::new();
        for beat in &heartbeat.beats {
            if self.cluster.is_none() || self.leases.knows(beat.task, beat.attempt) {
                continue;
            }
            let row = self.read.views().get(beat.task).cloned();
            match row.filter(|row| row.attempt() >= beat.attempt) {
                Some(row) if row.status().is_active() => self.restore(&row, Instant::now()),
                Some(_) => {}
                None => unknown.push((beat.task, beat.attempt)),
            }
        }
        unknown
    }
}

/// Waits until the views show what the log holds of these attempts' tasks; false where that can't be said.
async fn are_received(store: EventStore, read: ViewsReader, attempts: Vec<AttemptId>) -> bool {
    for (task, _) in attempts {
        let Ok(events) = store.read_for_decision(&StreamName::task(task), Revision(0)).await else { return false };
        if let Some(last) = events.last()
            && !read.wait_for_revision(task, last.revision).await
        {
            return false;
        }
    }
    true
}
