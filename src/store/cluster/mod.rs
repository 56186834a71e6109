//! The log in an EventStoreDB or KurrentDB, which several servers share. The database orders the events, replicates them,
//! and refuses an append whose expected revision is wrong. That refusal is the lock on each stream.
//!
//! Two threads run, each with its own client of the database ([`mod@supervise`], [`connect`]). One sends appends and reads
//! ([`client`], [`append`], [`read`]). The other subscribes to the whole log, assigns positions and hashes to the events,
//! and stores the newest events in memory ([`follow`], [`index`]). A third thread starts with the first subscription to the
//! servers' records and receives them ([`auxiliary`]).
//!
//! [`shared`] holds the state that the threads share. [`url`] holds the address and the names of the streams, [`record`] the
//! form of an event in the database, and [`epoch`] the log's id. [`spin`] stops an endless loop of the client.
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
mod read;
mod record;
mod shared;
mod spin;
mod supervise;
mod url;

use append::Appends;
use auxiliary::ServerRecordFollower;
use connect::ClientSession;
use follow::Follower;
use shared::ClusterState;
use supervise::supervise;
pub use url::{InvalidUrl, StoreUrl};

/// The number of streams that one call of `read_many_for_decision` reads at the same time.
const CONCURRENT_READS: usize = 256;

/// The log in a cluster, with the threads that serve it. Its drop waits until the threads have ended.
pub(in crate::store) struct Cluster {
    shared: Arc<ClusterState>,
    appends: Appends,
    /// Becomes true when the store is closed; then the threads end.
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts the threads and returns without waiting for the database. If the database has no id for this log yet, the log
    /// gets the id `new_epoch`.
    pub(in crate::store) fn open(url: StoreUrl, new_epoch: Uuid) -> Result<Self, OpenError> {
        let shared = Arc::new(ClusterState::new(url, new_epoch));
        let stop = watch::Sender::new(false);
        let client_thread = supervise("taskbell-store", stop.subscribe(), ClientSession(Arc::clone(&shared)))
            .map_err(OpenError::Threads)?;
        let follower = Follower::new(Arc::clone(&shared));
        let follower_thread = supervise("taskbell-follow", stop.subscribe(), follower).map_err(OpenError::Threads)?;
        Ok(Self { shared, appends: Appends::new(), stop, threads: Mutex::new(vec![client_thread, follower_thread]) })
    }

    pub(in crate::store) fn recent(&self) -> &RecentEvents {
        &self.shared.recent
    }

    pub(in crate::store) async fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        self.appends.write(&self.shared, appends).await
    }

    pub(in crate::store) async fn append_auxiliary(
        &self,
        stream: AuxiliaryStream,
        expected: AuxiliaryExpected,
        event: NewAuxiliaryEvent,
    ) -> Result<Revision, AppendError> {
        let revision = self.appends.write_auxiliary(&self.shared, stream, expected, &event).await?;
        // The limit is set with the first record. In case that request has failed, it is set again at the revisions 1, 2, 4,
        // …
        if matches!(stream, AuxiliaryStream::Server(_)) && (revision.0 == 0 || revision.0.is_power_of_two()) {
            auxiliary::limit_records(&self.shared, stream).await;
        }
        Ok(revision)
    }

    pub(in crate::store) async fn read_last_auxiliary(
        &self,
        stream: AuxiliaryStream,
    ) -> Result<Option<AuxiliaryEvent>, ReadError> {
        auxiliary::read_last(&self.shared, stream).await
    }

    pub(in crate::store) fn mark_failed(&self, why: &str) {
        self.shared.fail(ReadError::Damaged(why.to_owned()));
    }

    /// Starts a thread that sends the servers' records from now on.
    pub(in crate::store) fn subscribe_to_server_records(&self, notices: mpsc::Sender<ServerRecordNotice>) {
        let follower = ServerRecordFollower::new(Arc::clone(&self.shared), notices);
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
        read::read_stream(&self.shared, stream, from).await
    }

    pub(in crate::store) async fn read_for_decision(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::read_for_decision(&self.shared, stream, from).await
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
        read::read_all(&self.shared, after, head, limit).await
    }

    /// The log's id; nil until the database has answered for the first time.
    pub(in crate::store) fn epoch(&self) -> Uuid {
        self.shared.epoch.get().copied().unwrap_or_default()
    }

    pub(in crate::store) fn health(&self) -> Result<(), String> {
        self.shared.health()
    }

    pub(in crate::store) fn has_failed(&self) -> bool {
        self.shared.failure().is_some()
    }

    pub(in crate::store) async fn wait_for_health(&self, healthy: bool) -> Result<(), String> {
        self.shared.wait_for_health(|health| health.is_ok() == healthy).await
    }

    pub(in crate::store) fn is_caught_up(&self) -> bool {
        self.shared.is_caught_up()
    }

    /// Waits until the log has failed for the rest of this process.
    pub(in crate::store) async fn wait_for_failure(&self) -> ReadError {
        self.shared.wait_for_failure().await
    }
}

impl Drop for Cluster {
    /// Waits until the threads have ended. Requests without a response are dropped.
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
    }
}
