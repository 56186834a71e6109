//! The log in an EventStoreDB or KurrentDB, which several servers share. The database orders the events, replicates them,
//! and refuses an append whose expected revision is wrong. So no other lock is needed: of two writers at one revision, one is
//! refused.
//!
//! Two threads run, each with its own client of the database ([`mod@supervise`], [`connect`]). One sends appends and reads
//! ([`client`], [`append`], [`read`]). The other subscribes to the whole log, assigns positions and hashes to the events
//! ([`follow`], [`index`]), and passes the events to [`RecentEvents`]. A third thread starts with the first subscription to
//! the servers' records and receives them ([`auxiliary`]).
//!
//! [`mod@state`] holds the state that the threads share. [`url`] holds the address and the names of the streams, [`record`]
//! the form of an event in the database, and [`epoch`] the log's id, which Taskbell's API calls its epoch. [`loop_breaker`]
//! stops an endless loop of the client.
//!
//! Two kinds of positions exist. The position of an event in Taskbell's log is its number in the order of delivery. A
//! [`index::DatabasePosition`] is a position in the database's own log; it is used only in this folder.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::auxiliary::{AuxiliaryEvent, AuxiliaryExpected, AuxiliaryStream, NewAuxiliaryEvent, ServerRecordNotice};
use super::encoded::EncodedAppend;
use super::recent::RecentEvents;
use super::{AppendError, OpenError, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

mod append;
mod auxiliary;
#[cfg(any(feature = "testing", feature = "cli"))]
pub mod check;
mod client;
mod connect;
mod epoch;
mod follow;
mod index;
mod loop_breaker;
mod read;
mod record;
mod state;
mod supervise;
mod url;

use append::AppendSender;
use auxiliary::ServerRecordFollower;
use connect::ClientSessions;
use follow::Follower;
use state::ClusterState;
use supervise::supervise;
pub use url::{InvalidUrl, StoreUrl};

/// The number of streams that one call of `read_many_for_decision` reads at the same time.
const CONCURRENT_READS: usize = 256;

/// The log in a cluster, with the threads that serve it. Its drop waits until the threads have ended.
pub(in crate::store) struct Cluster {
    state: Arc<ClusterState>,
    append_sender: AppendSender,
    /// Becomes true when the store is closed; then the threads end.
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts the threads and returns without waiting for the database. If the database has no id for this log yet, the log
    /// gets the id `new_epoch`.
    pub(in crate::store) fn open(url: StoreUrl, new_epoch: Uuid) -> Result<Self, OpenError> {
        let state = Arc::new(ClusterState::new(url, new_epoch));
        let stop = watch::Sender::new(false);
        let client_thread = supervise("taskbell-client", stop.subscribe(), ClientSessions(Arc::clone(&state)))
            .map_err(OpenError::Threads)?;
        let follower = Follower::new(Arc::clone(&state));
        let follower_thread = supervise("taskbell-follow", stop.subscribe(), follower).map_err(OpenError::Threads)?;
        Ok(Self {
            state,
            append_sender: AppendSender::new(),
            stop,
            threads: Mutex::new(vec![client_thread, follower_thread]),
        })
    }

    pub(in crate::store) fn recent(&self) -> &RecentEvents {
        &self.state.recent
    }

    pub(in crate::store) async fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        self.append_sender.write(&self.state, appends).await
    }

    pub(in crate::store) async fn append_auxiliary(
        &self,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: NewAuxiliaryEvent,
    ) -> Result<Revision, AppendError> {
        let revision = self.append_sender.write_auxiliary(&self.state, stream, expected, &event).await?;
        // The limit is set with the first record. In case that request has failed, it is set again at the revisions 1, 2, 4,
        // …
        if matches!(stream, AuxiliaryStream::Server(_)) && (revision.0 == 0 || revision.0.is_power_of_two()) {
            auxiliary::limit_records(&self.state, stream).await;
        }
        Ok(revision)
    }

    pub(in crate::store) async fn read_last_auxiliary(
        &self,
        stream: AuxiliaryStream,
    ) -> Result<Option<AuxiliaryEvent>, ReadError> {
        auxiliary::read_last(&self.state, stream).await
    }

    pub(in crate::store) fn report_divergence(&self, why: &str) {
        self.state.fail(ReadError::Damaged(why.to_owned()));
    }

    /// Starts a thread that sends the servers' records from now on.
    pub(in crate::store) fn subscribe_to_server_records(&self, notices: mpsc::Sender<ServerRecordNotice>) {
        let follower = ServerRecordFollower::new(Arc::clone(&self.state), notices);
        match supervise("taskbell-servers", self.stop.subscribe(), follower) {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => tracing::error!(%error, "the thread for the servers' records can't be started"),
        }
    }

    pub(in crate::store) async fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::read_stream(&self.state, stream, from).await
    }

    pub(in crate::store) async fn read_for_decision(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::read_for_decision(&self.state, stream, from).await
    }

    /// All events of each stream. Many streams are read at the same time.
    pub(in crate::store) async fn read_many_for_decision(
        &self,
        streams: &[StreamName],
    ) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let reads = stream::iter(streams).map(|stream| self.read_for_decision(stream, Revision(0)));
        reads.buffered(CONCURRENT_READS).try_collect().await
    }

    pub(in crate::store) async fn read_all(
        &self,
        after: Position,
        head: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::read_all(&self.state, after, head, limit).await
    }

    /// The log's id; nil until the database has responded for the first time.
    pub(in crate::store) fn epoch(&self) -> Uuid {
        self.state.epoch.get().copied().unwrap_or_default()
    }

    pub(in crate::store) fn health(&self) -> Result<(), String> {
        self.state.health()
    }

    pub(in crate::store) fn has_failed(&self) -> bool {
        self.state.failure().is_some()
    }

    pub(in crate::store) async fn wait_for_health(&self, healthy: bool) -> Result<(), String> {
        self.state.wait_for_health(|health| health.is_ok() == healthy).await
    }

    pub(in crate::store) fn is_caught_up(&self) -> bool {
        self.state.is_caught_up()
    }

    /// Waits until the log has failed for the rest of this process.
    pub(in crate::store) async fn wait_for_failure(&self) -> ReadError {
        self.state.wait_for_failure().await
    }
}

impl Drop for Cluster {
    /// Waits until the threads have ended. Requests without a response are dropped.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the cluster's log has panicked");
            }
        }
    }
}
