//! The dispatcher of a server of a cluster: it writes this server's records, and acts on the records of other servers.
//!
//! The dispatcher appends a record at short intervals, and earlier if a heartbeat waits for one. Only one record is under way
//! at a time. A record names the attempts whose heartbeats this server has received, and the attempts in this process. When
//! the record is durable, the leases of these attempts are extended. While no record can be written, the leases run out, and
//! the workers get the directive `lost`. An attempt that no server names for too long is ended
//! ([`servers`](crate::dispatch::servers)). [`foreign`] handles the work in the shares of other servers.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture};
use futures_util::stream::unfold;
use serde_json::value::to_raw_value;
use uuid::Uuid;

use crate::dispatch::directive::Directive;
use crate::dispatch::servers::{AttemptId, ServerRecord, ServerTable, record_interval};
use crate::dispatch::shares::Shares;
use crate::store::auxiliary::{
    AuxiliaryEvent, AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent, ServerRecordNotice,
};
use crate::store::{AppendError, EventStore, Head, new_id, now};
use crate::task::limits::LOCAL_WORKER_PREFIX;
use crate::task::{Position, TaskId};
use crate::views::{Filter, Snapshot};

use super::{Dispatcher, system_command};

mod foreign;
mod unknown_leases;

use foreign::ForeignWork;

/// The event type of a record.
const RECORD_TYPE: &str = "ServerRecord";
/// The maximum number of attempts in one event. A record with more attempts is written as several events.
const ATTEMPTS_MAX: usize = 10_000;
/// The pause between two records if a heartbeat waits for the second one.
const RECORD_PAUSE: Duration = Duration::from_millis(50);

/// The part of the dispatcher that exists only on a server of a cluster.
pub(super) struct Cluster {
    store: EventStore,
    own_id: Uuid,
    shares: Shares,
    interval: Duration,
    servers: ServerTable,
    /// The leases of the attempts in this process.
    local_leases: HashMap<TaskId, LocalLease>,
    is_record_under_way: bool,
    /// Whether the last record could not be written.
    has_record_failed: bool,
    foreign: ForeignWork,
    /// For each other server: the newest position in its records that this server has not received yet, and the hash of the
    /// event there.
    peer_heads: HashMap<Uuid, (Position, String)>,
}

/// The lease of an attempt in this process: the attempt is stopped at the deadline, unless a record extends the lease.
struct LocalLease {
    attempt: u32,
    lease_time: Duration,
    deadline: Instant,
}

/// A record that is being written.
struct PendingRecord {
    begun: Instant,
    /// The attempts that the record names.
    attempts: Vec<AttemptId>,
    /// The attempts among them whose leases a heartbeat has renewed, with the times of the renewals. If the record can't be
    /// written, the next record must name them.
    renewals: Vec<(AttemptId, Instant)>,
}

impl Cluster {
    pub(super) fn new(store: EventStore, shares: Shares, shortest_lease_time: Duration) -> Self {
        let own_id = Uuid::new_v4();
        Self {
            store,
            own_id,
            shares,
            interval: record_interval(shortest_lease_time),
            servers: ServerTable::new(own_id),
            local_leases: HashMap::new(),
            is_record_under_way: false,
            has_record_failed: false,
            foreign: ForeignWork::default(),
            peer_heads: HashMap::new(),
        }
    }

    /// Compares the positions and hashes in other servers' records with the events that this server has received. If they
    /// differ, this server refuses its log: it stops reading and writing.
    fn check_peer_heads(&mut self) {
        let head = self.store.head().position;
        let store = &self.store;
        let conflict =
            self.peer_heads.extract_if(|_, (position, _)| *position <= head).find(|(_, (position, hash))| {
                store.recent_hash(*position).is_some_and(|received| received.to_string() != *hash)
            });
        if let Some((server, (position, _))) = conflict {
            self.store.report_divergence(&format!("server {server} has received another event at position {position}"));
        }
    }

    fn record(&self, kinds: Option<HashSet<String>>, attempts: &[AttemptId]) -> ServerRecord {
        let Head { position, hash, .. } = self.store.head();
        let interval_ms = u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX);
        ServerRecord { time: now(), interval_ms, position, hash: hash.to_string(), kinds, attempts: attempts.to_vec() }
    }

    /// Encodes the record as events, several if it names many attempts.
    fn events(
        &mut self,
        kinds: Option<&HashSet<String>>,
        pending: &PendingRecord,
    ) -> serde_json::Result<Vec<NewAuxiliaryEvent>> {
        let mut parts: Vec<&[AttemptId]> = pending.attempts.chunks(ATTEMPTS_MAX).collect();
        if parts.is_empty() {
            parts.push(&[]);
        }
        let event = |part| {
            let data = to_raw_value(&self.record(kinds.cloned(), part))?;
            Ok(NewAuxiliaryEvent { id: new_id(), event_type: RECORD_TYPE, data })
        };
        let events: Vec<NewAuxiliaryEvent> = parts.into_iter().map(event).collect::<serde_json::Result<_>>()?;
        for event in &events {
            self.servers.record_sent(event.id, pending.begun);
        }
        Ok(events)
    }
}

impl Dispatcher {
    /// Subscribes to the servers' records, and begins to write the records of this server.
    pub(super) fn begin_records(&mut self, ctx: &mut Context<Self>) {
        let Some(cluster) = &self.cluster else { return };
        let records = cluster.store.subscribe_to_server_records();
        ctx.add_stream(unfold(records, async |mut records| records.next().await.map(|notice| (notice, records))));
        ctx.run_interval(cluster.interval, |this, ctx| {
            this.stop_expired_local();
            this.append_record(ctx);
        });
        self.append_record(ctx);
        Self::begin_admitting_foreign(ctx);
    }

    /// Appends a record, unless another one is under way.
    pub(super) fn append_record(&mut self, ctx: &mut Context<Self>) {
        let kinds = self.queue_and_offers.executed_kinds();
        let local: Vec<AttemptId> = self.in_flight.executing().collect();
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.is_record_under_way) else { return };
        let begun = Instant::now();
        cluster.shares.set((cluster.own_id, kinds.clone()), cluster.servers.live_peers(begun));
        cluster.check_peer_heads();
        let renewals = self.leases.take_unrecorded(begun);
        let attempts = renewals.iter().map(|(attempt, _)| *attempt).chain(local).collect();
        let pending = PendingRecord { begun, attempts, renewals };
        let events = match cluster.events(kinds.as_ref(), &pending) {
            Ok(events) => events,
            Err(error) => return tracing::error!(%error, "this server's record can't be written as JSON"),
        };
        cluster.is_record_under_way = true;
        let (store, stream) = (cluster.store.clone(), AuxiliaryStream::Server(cluster.own_id));
        let append = async move {
            for event in events {
                store.append_auxiliary(stream, AuxiliaryExpected::Any, event).await?;
            }
            Ok(())
        };
        ctx.spawn(append.into_actor(self).map(|written, this, ctx| this.record_written(written, pending, ctx)));
    }

    fn record_written(&mut self, written: Result<(), AppendError>, pending: PendingRecord, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.is_record_under_way = false;
        let PendingRecord { begun, attempts, renewals } = pending;
        match written {
            Ok(()) => {
                cluster.has_record_failed = false;
                for (task, attempt) in &attempts {
                    if let Some(lease) = cluster.local_leases.get_mut(task).filter(|lease| lease.attempt == *attempt) {
                        lease.deadline = begun + lease.lease_time;
                    }
                }
                self.leases.extend_recorded_leases(&attempts, begun, Instant::now());
                if self.leases.is_record_awaited() {
                    ctx.run_later(RECORD_PAUSE, Self::append_record);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut cluster.has_record_failed, true) {
                    tracing::warn!(%error, "this server's records can't be written; its workers stop when their leases end");
                }
                self.leases.restore_unrecorded(renewals);
            }
        }
    }

    /// On a cluster, adds the lease of an attempt that begins in this process. Its start was sent at `sent`.
    pub(super) fn track_local_lease(&mut self, (task, attempt): AttemptId, kind: &str, sent: Instant) {
        let lease_time = self.policies.lease_time(kind);
        if let Some(cluster) = &mut self.cluster {
            cluster.local_leases.insert(task, LocalLease { attempt, lease_time, deadline: sent + lease_time });
        }
    }

    /// Stops the attempts in this process whose deadlines have passed, because no durable record has named them in time.
    /// Another server may have ended them.
    fn stop_expired_local(&mut self) {
        let executing: HashSet<AttemptId> = self.in_flight.executing().collect();
        let Some(cluster) = &mut self.cluster else { return };
        let now = Instant::now();
        cluster.local_leases.retain(|task, lease| executing.contains(&(*task, lease.attempt)));
        let expired: Vec<TaskId> =
            cluster.local_leases.extract_if(|_, lease| lease.deadline <= now).map(|(task, _)| task).collect();
        for task in expired {
            tracing::warn!(%task, "this server can't write its records: the attempt is stopped");
            self.send_local_directive(task, Directive::Lost);
        }
    }

    /// An attempt has started, on this server or another one.
    pub(super) fn track_attempt(&mut self, attempt: AttemptId, lease_time: Duration) {
        if let Some(cluster) = &mut self.cluster {
            cluster.servers.attempt_started(attempt, lease_time, Instant::now());
        }
    }

    /// An attempt has ended, on this server or another one.
    pub(super) fn untrack_attempt(&mut self, attempt: AttemptId) {
        if let Some(cluster) = &mut self.cluster {
            cluster.servers.attempt_ended(attempt);
        }
    }

    /// Tracks the active attempts of the views, and no others. Attempts that were tracked before keep their times.
    pub(super) fn track_active_attempts(&mut self, snapshot: &Snapshot) {
        let Some(cluster) = &mut self.cluster else { return };
        let (open, now) = (Filter::of_open_tasks(), Instant::now());
        let mut active = HashSet::new();
        for row in snapshot.matching(&open).filter(|row| row.status().is_active()) {
            let attempt = (row.id(), row.attempt());
            active.insert(attempt);
            cluster.servers.attempt_started(attempt, self.policies.lease_time(row.kind()), now);
        }
        cluster.servers.retain_attempts(&active);
    }

    fn record_received(&mut self, recorded: &AuxiliaryEvent, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        let AuxiliaryStream::Server(server) = recorded.stream else { return };
        // A later version of Taskbell may write records that this one can't read.
        let Ok(record) = serde_json::from_str::<ServerRecord>(recorded.data.get()) else { return };
        let now = Instant::now();
        cluster.servers.record_received(server, recorded.id, &record, now);
        if server == cluster.own_id {
            return self.expire_unnamed(ctx);
        }
        cluster.peer_heads.insert(server, (record.position, record.hash));
        cluster.check_peer_heads();
        for attempt in record.attempts {
            self.leases.named_in_peer_record(attempt, now);
        }
    }

    /// Ends the attempts that no server has named for too long. Other servers may send the same commands; the first one has an
    /// effect.
    fn expire_unnamed(&mut self, ctx: &mut Context<Self>) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.store.is_caught_up()) else { return };
        let expired = cluster.servers.take_expired(Instant::now());
        let commands = expired.into_iter().map(|(task, attempt)| {
            let is_local = self
                .reader
                .views()
                .get(task)
                .is_some_and(|row| row.worker().is_some_and(|worker| worker.starts_with(LOCAL_WORKER_PREFIX)));
            let message = if is_local {
                "its server sent no record during the lease time"
            } else {
                "its worker sent no heartbeat during the lease time"
            };
            system_command(task, self.lose_attempt(task, attempt, "lease_expired", message.to_owned()))
        });
        let commands = commands.collect();
        self.execute_until_written(commands, ctx);
    }
}

impl StreamHandler<ServerRecordNotice> for Dispatcher {
    fn handle(&mut self, notice: ServerRecordNotice, ctx: &mut Context<Self>) {
        let Some(cluster) = &mut self.cluster else { return };
        match notice {
            ServerRecordNotice::Subscribed => cluster.servers.subscription_began(Instant::now()),
            ServerRecordNotice::Unsubscribed => cluster.servers.subscription_ended(),
            ServerRecordNotice::Record(recorded) => self.record_received(&recorded, ctx),
        }
    }

    /// The store is closed. Does nothing, because the default implementation would stop the dispatcher.
    fn finished(&mut self, _: &mut Context<Self>) {}
}
