//! A stand-in for the database, in memory, for tests and for trials (`examples/standin.rs`). Its writes follow the rules of
//! EventStoreDB: expected revisions, idempotency by event id, soft deletes, tombstones, stream metadata, positions with gaps,
//! size limits.
//!
//! `commit` holds the rules of a write, `contents` the events, `metadata` the truncation of streams, `faults` the faults that
//! tests switch on, `node` one server of the database's cluster.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::event::{WireEvent, WirePosition};
use super::server::WireServer;

mod commit;
mod contents;
mod faults;
mod metadata;
mod node;

use contents::DatabaseContents;
use faults::InjectedFaults;
use node::{Node, NodeBackend};

/// A database in memory; clones share it. It keeps its events while none of its servers runs.
#[derive(Clone, Default)]
pub struct Database {
    state: Arc<DatabaseState>,
}

#[derive(Default)]
struct DatabaseState {
    contents: Mutex<DatabaseContents>,
    /// The position of the last event.
    end: watch::Sender<Option<WirePosition>>,
    faults: InjectedFaults,
    nodes: Mutex<Vec<Arc<Node>>>,
}

/// A running server of the stand-in database. It stops when it is dropped.
pub struct NodeHandle {
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

    /// Starts a server of the database, on a separate thread. Several servers of one database are a cluster. Each server is
    /// a leader until its [`NodeHandle::follow`] is called.
    ///
    /// # Errors
    /// The server can't listen on the address, or its thread can't be started.
    pub async fn serve(&self, addr: SocketAddr) -> io::Result<NodeHandle> {
        let node = Arc::new(Node::default());
        let backend = NodeBackend::new(self.clone(), Arc::clone(&node));
        let server = WireServer::start(addr, None, None, move |addr| backend.join_cluster(addr)).await?;
        Ok(NodeHandle { node, database: self.clone(), running: Some(server) })
    }

    /// Every event in the order of the log, including the truncated events.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<WireEvent>> {
        self.with_contents(|contents| contents.all().to_vec())
    }

    /// The names of all streams in the order of their first event, metadata streams included.
    #[must_use]
    pub fn streams(&self) -> Vec<String> {
        self.with_contents(|contents| {
            let mut names: Vec<String> = Vec::new();
            for event in contents.all().iter().filter(|event| event.revision == 0) {
                names.push(event.stream.to_string());
            }
            names
        })
    }

    /// Every event of a stream, including the truncated events.
    #[must_use]
    pub fn stream(&self, name: &str) -> Vec<Arc<WireEvent>> {
        self.with_contents(|contents| contents.stream(name).to_vec())
    }

    /// Freezes the database until [`Database::thaw`]: new requests wait before they do anything, and subscriptions send
    /// nothing.
    pub fn freeze(&self) {
        self.state.faults.freeze(true);
    }

    /// Ends [`Database::freeze`]. The waiting requests continue in the order in which they came.
    pub fn thaw(&self) {
        self.state.faults.freeze(false);
    }

    /// While `hold` is true, writes are executed but their responses are delayed. If a server stops during this time, the
    /// responses are lost, and its clients don't know whether their writes were executed.
    pub fn hold_responses(&self, hold: bool) {
        self.state.faults.hold_responses(hold);
    }

    /// Waits until at least `count` requests are delayed by [`Database::freeze`] or [`Database::hold_responses`]. A
    /// subscription that has events to read counts as a request.
    pub async fn wait_for_delayed_requests(&self, count: usize) {
        self.state.faults.wait_for_delayed_requests(count).await;
    }

    /// Ends the subscriptions that run now with the status OK. A real database should never do that: the Rust client then
    /// runs in an endless loop that doesn't yield.
    pub fn end_subscriptions(&self) {
        self.state.faults.end_subscriptions();
    }

    /// Delays the response to each write by this time. The write itself is executed at once.
    pub fn set_latency(&self, latency: Duration) {
        self.state.faults.set_latency(latency);
    }

    /// Forgets the recent event ids, as after a change of the leader. An append with the expected revision `Any` that is
    /// sent again is then written twice.
    pub fn forget_recent_ids(&self) {
        self.with_contents(DatabaseContents::forget_recent_ids);
    }

    fn with_contents<T>(&self, read: impl FnOnce(&mut DatabaseContents) -> T) -> T {
        read(&mut self.state.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_nodes<T>(&self, read: impl FnOnce(&mut Vec<Arc<Node>>) -> T) -> T {
        read(&mut self.state.nodes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl NodeHandle {
    /// The address on which it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.node.addr()
    }

    /// Makes this server a follower. It refuses a request that requires the leader, with the leader's address.
    pub fn follow(&self, leader: SocketAddr) {
        self.node.set_leader(Some(leader));
    }

    /// Makes this server the leader.
    pub fn lead(&self) {
        self.node.set_leader(None);
    }

    /// Stops at once and cuts every connection, like a killed process. The port is free when this returns.
    pub async fn stop(mut self) {
        if let Some(server) = self.running.take() {
            server.stop().await;
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        self.database.with_nodes(|nodes| nodes.retain(|node| !Arc::ptr_eq(node, &self.node)));
    }
}
