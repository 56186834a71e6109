//! The log in an EventStoreDB or KurrentDB, which several servers share. Order, replication and the lock on each stream (its
//! expected revision) are the database's.
//!
//! Two threads, each with a client of its own ([`mod@supervise`], [`connect`]). One sends appends and reads ([`client`],
//! [`append`], [`read`]). The other follows the whole log, numbers its events and keeps the newest ([`follow`], [`index`]).
//! A third thread receives the records of all servers once they are asked for ([`aside`]). [`shared`] is what the threads
//! have in common. [`url`] is the address and the names of the streams, [`record`] the form of an event in the database,
//! [`epoch`] the log's id, and [`spin`] ends a loop of the client.
//!
//! The database's places never leave this folder: an event's position is its number in the order of delivery.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::aside::{AsideEvent, AsideExpected, AsideRecorded, AsideStream, ServerNotice};
use super::encoded::EncodedAppend;
use super::recent::RecentEvents;
use super::{AppendError, OpenError, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

mod append;
mod aside;
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
use aside::ServerFollower;
use connect::Connecting;
use follow::Follower;
use shared::Shared;
use supervise::supervise;
pub use url::{InvalidUrl, StoreUrl};

/// Streams that one call reads at the same time.
const READS: usize = 256;

pub(in crate::store) struct Cluster {
    shared: Arc<Shared>,
    appends: Appends,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Cluster {
    /// Starts the threads, and waits for nothing. The log gets the id `new_epoch` where the database has none yet.
    pub(in crate::store) fn open(url: StoreUrl, new_epoch: Uuid) -> Result<Self, OpenError> {
        let threads = |source| OpenError::Threads(source);
        let shared = Arc::new(Shared::new(url, new_epoch));
        let stop = watch::Sender::new(false);
        let client = supervise("taskbell-store", stop.subscribe(), Connecting(Arc::clone(&shared))).map_err(threads)?;
        let follower = Follower::new(Arc::clone(&shared));
        let follower = supervise("taskbell-follow", stop.subscribe(), follower).map_err(threads)?;
        Ok(Self { shared, appends: Appends::new(), stop, threads: Mutex::new(vec![client, follower]) })
    }

    pub(in crate::store) fn recent(&self) -> &RecentEvents {
        &self.shared.recent
    }

    pub(in crate::store) async fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        self.appends.write(&self.shared, appends).await
    }

    pub(in crate::store) async fn append_aside(
        &self,
        stream: AsideStream,
        expected: AsideExpected,
        event: AsideEvent,
    ) -> Result<Revision, AppendError> {
        let revision = self.appends.write_aside(&self.shared, stream, expected, &event).await?;
        // The first time counts; the others make up for one that failed.
        if matches!(stream, AsideStream::Server(_)) && (revision.0 == 0 || revision.0.is_power_of_two()) {
            aside::bound(&self.shared, stream).await;
        }
        Ok(revision)
    }

    pub(in crate::store) async fn read_aside_last(
        &self,
        stream: AsideStream,
    ) -> Result<Option<AsideRecorded>, ReadError> {
        aside::last(&self.shared, stream).await
    }

    pub(in crate::store) fn refuse(&self, why: &str) {
        self.shared.fail(ReadError::Damaged(why.to_owned()));
    }

    /// Sends the servers' records from now on, by a thread of its own.
    pub(in crate::store) fn follow_servers(&self, notices: mpsc::Sender<ServerNotice>) {
        let follower = ServerFollower::new(Arc::clone(&self.shared), notices);
        match supervise("taskbell-servers", self.stop.subscribe(), follower) {
            Ok(thread) => self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread),
            Err(error) => tracing::error!(%error, "no thread for the servers' records"),
        }
    }

    pub(in crate::store) async fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::stream(&self.shared, stream, from).await
    }

    pub(in crate::store) async fn read_past(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::past(&self.shared, stream, from).await
    }

    /// The whole past of each stream, many read at the same time.
    pub(in crate::store) async fn read_pasts(
        &self,
        streams: &[StreamName],
    ) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let reads = stream::iter(streams).map(|stream| self.read_past(stream, Revision(0)));
        reads.buffered(READS).try_collect().await
    }

    pub(in crate::store) async fn read_all(
        &self,
        after: Position,
        head: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        read::all(&self.shared, after, head, limit).await
    }

    /// Nil until the database has answered once.
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
    pub(in crate::store) async fn failure(&self) -> ReadError {
        self.shared.failed().await
    }
}

impl Drop for Cluster {
    /// Waits until the threads have ended. Requests that are under way are given up.
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
