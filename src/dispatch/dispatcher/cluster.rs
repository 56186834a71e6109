//! On a cluster: this server's records, and what the other servers' records lead to.
//!
//! At short intervals, and as soon as a heartbeat needs it, a record is appended; one at a time. It names the attempts that
//! workers have sent heartbeats for, and those in this process. When it is durable, these attempts live on; while none can be
//! written, their workers get the directive to stop. Attempts that no server names are lost
//! ([`servers`](crate::dispatch::servers)). Which work this server leaves to others at first is in [`foreign`].

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture};
use futures_util::stream::unfold;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use crate::dispatch::directive::Directive;
use crate::dispatch::servers::{AttemptId, ServerRecord, ServerTable, record_interval};
use crate::dispatch::shares::Shares;
use crate::store::aside::{AsideEvent, AsideExpected, AsideRecorded, AsideStream, ServerNotice};
use crate::store::{AppendError, EventStore, Head, new_id, now};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Position, TaskId};
use crate::views::{Filter, Row, Snapshot};

use super::{Dispatcher, system_command};

mod foreign;
mod unknown;

use foreign::Foreign;

/// The type of a record's event.
const RECORD: &str = "ServerRecord";
/// Attempts that one event names at most; the rest follow in further ones.
const ATTEMPTS_MAX: usize = 10_000;
/// The pause before a record that a heartbeat waits for, after another one.
const PAUSE: Duration = Duration::from_millis(50);

/// What the dispatcher of a server of a cluster knows beside the rest.
pub(super) struct Cluster {
    store: EventStore,
    own: Uuid,
    shares: Shares,
    interval: Duration,
    servers: ServerTable,
    /// The attempts in this process, and until when they may run without a further record.
    local: HashMap<TaskId, LocalLease>,
    is_recording: bool,
    /// The last record could not be written.
    is_failing: bool,
    foreign: Foreign,
    /// What other servers' records say of positions that this server has not received yet.
    claims: HashMap<Uuid, (Position, String)>,
}

/// The lease of an attempt in this process.
struct LocalLease {
    attempt: u32,
    ttl: Duration,
    deadline: Instant,
}

/// A record on its way.
struct Recording {
    begun: Instant,
    attempts: Vec<AttemptId>,
    heard: Vec<(AttemptId, Instant)>,
}

impl Cluster {
    pub(super) fn new(store: EventStore, shares: Shares, shortest_lease: Duration) -> Self {
        let own = Uuid::new_v4();
        Self {
            store,
            own,
            shares,
            interval: record_interval(shortest_lease),
            servers: ServerTable::new(own),
            local: HashMap::new(),
            is_recording: false,
            is_failing: false,
            foreign: Foreign::default(),
            claims: HashMap::new(),
        }
    }

    /// Compares what other servers say of the log with what this server has received.
    fn check_claims(&mut self) {
        let head = self.store.head().position;
        let store = &self.store;
        let other = self.claims.extract_if(|_, (position, _)| *position <= head).find(|(_, (position, hash))| {
            store.recent_hash(*position).is_some_and(|received| received.to_string() != *hash)
        });
        if let Some((server, (position, _))) = other {
            self.store.refuse(&format!("server {server} has received another event at position {position}"));
        }
    }

    fn record(&self, kinds: Option<HashSet<String>>, attempts: &[AttemptId]) -> ServerRecord {
        let Head { position, hash, .. } = self.store.head();
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        ServerRecord { time: now(), interval_ms, position, hash: hash.to_string(), kinds, attempts: attempts.to_vec() }
    }

    /// The events of a record: several where it names very many attempts.
    fn events(
        &mut self,
        kinds: Option<&HashSet<String>>,
        recording: &Recording,
    ) -> serde_json::Result<Vec<AsideEvent>> {
        let mut parts: Vec<&[AttemptId]> = recording.attempts.chunks(ATTEMPTS_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let event = |part| {
            let data = to_raw_value(&self.record(kinds.cloned(), part))?;
            Ok(AsideEvent { id: new_id(), kind: RECORD, data })
        };
        let events: Vec<AsideEvent> = parts.into_iter().map(event).collect::<serde_json::Result<_>>()?;
        for event in &events {
            self.servers.sending(event.id, recording.begun);
        }
        Ok(events)
    }
}

impl Dispatcher {
    /// Subscribes to the servers' records, and begins to write this server's.
    pub(super) fn begin_records(&mut self, ctx: &mut Context<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let records = cluster.store.follow_servers();
        ctx.add_stream(unfold(records, async |mut records| records.next().await.map(|notice| (notice, records))));
        ctx.run_interval(cluster.interval, |this, ctx| {
            this.lose_local();
            this.append_record(ctx);
        });
        self.append_record(ctx);
        Self::begin_admitting(ctx);
    }

    /// Appends a record, unless one is under way.
    pub(super) fn append_record(&mut self, ctx: &mut Context<Self>) {
        let kinds = self.capacity.kinds();
        let local: Vec<AttemptId> = self.in_flight.executing().collect();
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.is_recording) else { return };
        let begun = Instant::now();
        cluster.shares.set((cluster.own, kinds.clone()), cluster.servers.live(begun));
        cluster.check_claims();
        let heard = self.leases.take_heard(begun);
        let attempts = heard.iter().map(|(attempt, _)| *attempt).chain(local).collect();
        let recording = Recording { begun, attempts, heard };
        let events = match cluster.events(kinds.as_ref(), &recording) {
            Ok(events) => events,
            Err(error) => return tracing::error!(%error, "this server's record can't be written as JSON"),
        };
        cluster.is_recording = true;
        let (store, stream) = (cluster.store.clone(), AsideStream::Server(cluster.own));
        let append = async move {
            for event in events {
                store.append_aside(stream, AsideExpected::Any, event).await?;
            }
            Ok(())
        };
        ctx.spawn(append.into_actor(self).map(|written, this, ctx| this.record_ended(written, recording, ctx)));
    }

    fn record_ended(&mut self, written: Result<(), AppendError>, recording: Recording, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.is_recording = false;
        let Recording { begun, attempts, heard } = recording;
        match written {
            Ok(()) => {
                cluster.is_failing = false;
                for (task, attempt) in &attempts {
                    if let Some(lease) = cluster.local.get_mut(task).filter(|lease| lease.attempt == *attempt) {
                        lease.deadline = begun + lease.ttl;
                    }
                }
                self.leases.recorded(&attempts, begun, Instant::now());
                if self.leases.awaits_record() {
                    ctx.run_later(PAUSE, Self::append_record);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut cluster.is_failing, true) {
                    tracing::warn!(%error, "this server's records can't be written; its workers stop when their leases end");
                }
                self.leases.restore_heard(heard);
            }
        }
    }

    /// An attempt begins in this process; its `Started` was sent then.
    pub(super) fn begin_local(&mut self, (task, attempt): AttemptId, kind: &str, sent: Instant) {
        let ttl = self.kinds.lease(kind);
        if let Some(cluster) = &mut self.cluster {
            cluster.local.insert(task, LocalLease { attempt, ttl, deadline: sent + ttl });
        }
    }

    /// Stops the attempts in this process that no durable record has named in time: another server may have them lost.
    fn lose_local(&mut self) {
        let executing: HashSet<AttemptId> = self.in_flight.executing().collect();
        let Some(cluster) = &mut self.cluster else { return };
        let now = Instant::now();
        cluster.local.retain(|task, lease| executing.contains(&(*task, lease.attempt)));
        let passed: Vec<TaskId> =
            cluster.local.extract_if(|_, lease| lease.deadline <= now).map(|(task, _)| task).collect();
        for task in passed {
            tracing::warn!(%task, "this server can't write its records: the attempt is given up");
            self.direct_here(task, Directive::Lost);
        }
    }

    /// An attempt has started, on whichever server.
    pub(super) fn track(&mut self, attempt: AttemptId, lease: Duration) {
        if let Some(cluster) = &mut self.cluster {
            cluster.servers.started(attempt, lease, Instant::now());
        }
    }

    /// An attempt has ended.
    pub(super) fn untrack(&mut self, attempt: AttemptId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.servers.ended(attempt);
        }
    }

    /// Takes over the attempts that the views show; those that were known keep their time.
    pub(super) fn track_active(&mut self, snapshot: &Snapshot) {
        let Some(cluster) = &mut self.cluster else { return };
        let (all, now) = (Filter::default(), Instant::now());
        let mut active = HashSet::new();
        for row in snapshot.matching(&all).filter(|row| row.status().is_active()) {
            let attempt = (row.id(), row.attempt());
            active.insert(attempt);
            cluster.servers.started(attempt, self.kinds.lease(row.kind()), now);
        }
        cluster.servers.retain(&active);
    }

    fn record_received(&mut self, recorded: &AsideRecorded, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        let AsideStream::Server(server) = recorded.stream else { return };
        // A later version may write what this one can't read.
        let Ok(record) = serde_json::from_str::<ServerRecord>(recorded.data.get()) else { return };
        let now = Instant::now();
        cluster.servers.received(server, recorded.id, &record, now);
        if server == cluster.own {
            return self.expire_unnamed(ctx);
        }
        cluster.claims.insert(server, (record.position, record.hash));
        cluster.check_claims();
        for attempt in record.attempts {
            self.leases.vouch(attempt, now);
        }
    }

    /// Ends the attempts that no server has named for too long. Other servers may do the same: the first one succeeds.
    fn expire_unnamed(&mut self, ctx: &mut Context<Self>) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.store.is_caught_up()) else { return };
        let expired = cluster.servers.take_expired(Instant::now());
        let commands = expired.into_iter().map(|(task, attempt)| {
            let is_local =
                self.read.views().get(task).and_then(Row::worker).is_some_and(|w| w.starts_with(LOCAL_WORKER_PREFIX));
            let who = if is_local { "its server" } else { "its worker" };
            let message = format!("{who} has not been heard of for as long as its lease lives");
            system_command(task, self.lose_attempt(task, attempt, "lease_expired", message))
        });
        let commands = commands.collect();
        self.execute_until_written(commands, ctx);
    }
}

impl StreamHandler<ServerNotice> for Dispatcher {
    fn handle(&mut self, notice: ServerNotice, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        match notice {
            ServerNotice::Live => cluster.servers.subscribed(Instant::now()),
            ServerNotice::Interrupted => cluster.servers.interrupted(),
            ServerNotice::Record(recorded) => self.record_received(&recorded, ctx),
        }
    }

    /// The store is closed; the dispatcher lives on until it is stopped.
    fn finished(&mut self, _: &mut Context<Self>) {}
}
