//! One server of the stand-in database's cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use super::super::backend::{AppendSuccess, ClusterMember, StreamDeletion, WireAppend, WireBackend};
use super::super::event::{WireEvent, WirePosition};
use super::super::refusal::Refusal;
use super::metadata::visible_events;
use super::{Database, commit};
use crate::clock::new_id;

/// A server's id, address and role in the cluster. [`super::NodeHandle`] is the running server.
pub(super) struct Node {
    id: Uuid,
    state: Mutex<NodeState>,
}

struct NodeState {
    addr: SocketAddr,
    /// The address of the leader; `None` if this server is the leader.
    leader: Option<SocketAddr>,
}

impl Default for Node {
    fn default() -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { id: new_id(), state: Mutex::new(NodeState { addr, leader: None }) }
    }
}

impl Node {
    pub(super) fn addr(&self) -> SocketAddr {
        self.with_state(|state| state.addr)
    }

    pub(super) fn set_leader(&self, leader: Option<SocketAddr>) {
        self.with_state(|state| state.leader = leader);
    }

    fn leader(&self) -> Option<SocketAddr> {
        self.with_state(|state| state.leader)
    }

    fn with_state<T>(&self, read: impl FnOnce(&mut NodeState) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The backend of one server: the server and its database.
pub(super) struct NodeBackend {
    database: Database,
    node: Arc<Node>,
}

impl NodeBackend {
    pub(super) fn new(database: Database, node: Arc<Node>) -> Self {
        Self { database, node }
    }

    /// Adds the server to the members of the cluster, with the address on which it listens.
    pub(super) fn join_cluster(self, addr: SocketAddr) -> Self {
        self.node.with_state(|state| state.addr = addr);
        self.database.with_nodes(|nodes| nodes.push(Arc::clone(&self.node)));
        self
    }

    /// Waits while the database is frozen.
    async fn wait_until_thawed(&self) {
        self.database.state.faults.before_request().await;
    }

    /// Executes a write and notifies the subscribers. Returns when no fault delays the response any more.
    async fn write<T>(&self, write: impl FnOnce(&Database) -> T) -> T {
        self.wait_until_thawed().await;
        let written = write(&self.database);
        self.database.state.end.send_replace(self.end());
        self.database.state.faults.before_response().await;
        written
    }
}

#[async_trait]
impl WireBackend for NodeBackend {
    async fn check_request(&self, requires_leader: bool) -> Result<(), Refusal> {
        self.wait_until_thawed().await;
        match self.node.leader() {
            Some(leader) if requires_leader => Err(Refusal::NotLeader(leader)),
            Some(_) | None => Ok(()),
        }
    }

    fn members(&self) -> Vec<ClusterMember> {
        let member =
            |node: &Arc<Node>| ClusterMember { id: node.id, addr: node.addr(), is_leader: node.leader().is_none() };
        self.database.with_nodes(|nodes| nodes.iter().map(member).collect())
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn end(&self) -> Option<WirePosition> {
        self.database.with_contents(|contents| contents.end())
    }

    async fn wait_for_event_after(&self, end: Option<WirePosition>) -> Result<(), Refusal> {
        let grown = self.database.state.end.subscribe().wait_for(|now| *now > end).await.map(drop);
        grown.map_err(|_| Refusal::Unavailable("the database is gone".to_owned()))
    }

    async fn wait_for_injected_end(&self) {
        self.database.state.faults.wait_for_injected_end().await;
    }

    async fn all_forwards(&self, from: Bound<WirePosition>, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.wait_until_thawed().await;
        Ok(self.database.with_contents(|contents| contents.forwards(from, limit)))
    }

    async fn all_backwards(&self, before: WirePosition, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.wait_until_thawed().await;
        Ok(self.database.with_contents(|contents| contents.backwards(before, limit)))
    }

    async fn stream_forwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.wait_until_thawed().await;
        self.database.with_contents(|contents| {
            let events = visible_events(contents, stream)?;
            let first = events.partition_point(|event| event.revision < from);
            Ok(events.iter().skip(first).take(limit).cloned().collect())
        })
    }

    async fn stream_backwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.wait_until_thawed().await;
        self.database.with_contents(|contents| {
            let events = visible_events(contents, stream)?;
            let end = events.partition_point(|event| event.revision <= from);
            Ok(events.iter().take(end).rev().take(limit).cloned().collect())
        })
    }

    async fn append(&self, append: WireAppend) -> Result<AppendSuccess, Refusal> {
        self.write(|database| database.with_contents(|contents| commit::append(contents, append))).await
    }

    async fn delete(&self, delete: StreamDeletion) -> Result<WirePosition, Refusal> {
        self.write(|database| database.with_contents(|contents| commit::delete(contents, &delete))).await
    }
}
