//! A stand-in for the database, in memory: for tests only. It takes writes by the rules of EventStoreDB: expected revisions,
//! idempotency by event id, soft deletes, tombstones, stream metadata, sparse positions, limits.
//!
//! `commit` holds the rules of a write, `streams` the events, `metadata` the truncation of streams, `faults` the switches by
//! which tests disturb the database, `node` one server of its cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::event::{WireEvent, WirePosition};
use super::server::Server as WireServer;

mod commit;
mod faults;
mod metadata;
mod node;
mod streams;

use faults::Faults;
use node::{Node, NodeBackend};
use streams::Data;

/// A database in memory; clones share it. It goes on while none of its servers runs.
#[derive(Clone, Default)]
pub struct Database {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    data: Mutex<Data>,
    /// The position of the last event.
    end: watch::Sender<Option<WirePosition>>,
    faults: Faults,
    nodes: Mutex<Vec<Arc<Node>>>,
}

/// A server of a database. It stops when it is dropped.
pub struct Server {
    node: Arc<Node>,
    database: Database,
    running: Option<WireServer>,
}

impl Database {
    /// An empty database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves the database on a thread and runtime of its own. Several servers of one database are a cluster: all of them
    /// are leaders until [`Server::follow`] is called.
    ///
    /// # Errors
    /// The address can't be listened on.
    pub async fn serve(&self, addr: SocketAddr) -> io::Result<Server> {
        let node = Arc::new(Node::default());
        let backend = NodeBackend::new(self.clone(), Arc::clone(&node));
        let server = WireServer::start(addr, move |addr| backend.listens_on(addr)).await?;
        Ok(Server { node, database: self.clone(), running: Some(server) })
    }

    /// Every event in the order of the log, also those that a stream no longer shows.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<WireEvent>> {
        self.data(|data| data.all().to_vec())
    }

    /// The names of all streams in the order of their first event, metadata streams included.
    #[must_use]
    pub fn streams(&self) -> Vec<String> {
        self.data(|data| {
            let mut names: Vec<String> = Vec::new();
            for event in data.all().iter().filter(|event| event.revision == 0) {
                names.push(event.stream.to_string());
            }
            names
        })
    }

    /// Every event of a stream, also those that it no longer shows.
    #[must_use]
    pub fn stream(&self, name: &str) -> Vec<Arc<WireEvent>> {
        self.data(|data| data.stream(name).to_vec())
    }

    /// Lets requests hang before they do anything, and subscriptions stand still, until [`Database::thaw`].
    pub fn freeze(&self) {
        self.shared.faults.freeze(true);
    }

    /// Ends [`Database::freeze`]: the requests that hang go on in the order in which they came.
    pub fn thaw(&self) {
        self.shared.faults.freeze(false);
    }

    /// Carries writes out but holds their answers back while `hold` is true. A server that stops meanwhile loses them: its
    /// clients don't know what became of their writes.
    pub fn hold_answers(&self, hold: bool) {
        self.shared.faults.hold_answers(hold);
    }

    /// Returns when at least so many requests hang, by [`Database::freeze`] or [`Database::hold_answers`]. A subscription
    /// that has something to read counts too.
    pub async fn wait_for_hanging(&self, count: usize) {
        self.shared.faults.wait_for_hanging(count).await;
    }

    /// Ends the subscriptions that run now with OK. A database should never do that: the Rust client then calls itself in a
    /// loop that doesn't yield.
    pub fn end_subscriptions(&self) {
        self.shared.faults.end_subscriptions();
    }

    /// Answers each write so much later; the write itself is done at once.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.faults.set_latency(latency);
    }

    /// Forgets the recent event ids, which a new leader doesn't know: an append at any revision that is sent again is then
    /// written again.
    pub fn forget_recent_ids(&self) {
        self.data(Data::forget_recent_ids);
    }

    fn data<T>(&self, read: impl FnOnce(&mut Data) -> T) -> T {
        read(&mut self.shared.data.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn nodes<T>(&self, read: impl FnOnce(&mut Vec<Arc<Node>>) -> T) -> T {
        read(&mut self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Server {
    /// The address on which it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.node.addr()
    }

    /// Makes this server a follower: a request that requires the leader is refused with the leader's address.
    pub fn follow(&self, leader: SocketAddr) {
        self.node.set_leader(Some(leader));
    }

    /// Makes this server the leader.
    pub fn lead(&self) {
        self.node.set_leader(None);
    }

    /// Stops at once, as a killed process does: every connection is cut. The port is free when this returns.
    pub async fn stop(mut self) {
        if let Some(server) = self.running.take() {
            server.stop().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.database.nodes(|nodes| nodes.retain(|node| !Arc::ptr_eq(node, &self.node)));
    }
}
