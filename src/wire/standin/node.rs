//! One server of the database's cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use uuid::Uuid;

use super::super::backend::{Backend, Delete, Member, WireAppend, Written};
use super::super::event::{WireEvent, WirePosition};
use super::super::refusal::Refusal;
use super::metadata::visible;
use super::{Database, commit};
use crate::clock::new_id;

/// What a server is in its cluster.
pub(super) struct Node {
    id: Uuid,
    state: Mutex<State>,
}

struct State {
    addr: SocketAddr,
    /// None where this server leads.
    leader: Option<SocketAddr>,
}

impl Default for Node {
    fn default() -> Self {
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { id: new_id(), state: Mutex::new(State { addr, leader: None }) }
    }
}

impl Node {
    pub(super) fn addr(&self) -> SocketAddr {
        self.state(|state| state.addr)
    }

    pub(super) fn set_leader(&self, leader: Option<SocketAddr>) {
        self.state(|state| state.leader = leader);
    }

    fn leader(&self) -> Option<SocketAddr> {
        self.state(|state| state.leader)
    }

    fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The database behind one of its servers.
pub(super) struct NodeBackend {
    database: Database,
    node: Arc<Node>,
}

impl NodeBackend {
    pub(super) fn new(database: Database, node: Arc<Node>) -> Self {
        Self { database, node }
    }

    /// Makes the server a member of the cluster.
    pub(super) fn listens_on(self, addr: SocketAddr) -> Self {
        self.node.state(|state| state.addr = addr);
        self.database.nodes(|nodes| nodes.push(Arc::clone(&self.node)));
        self
    }

    async fn thawed(&self) {
        self.database.shared.faults.before_request().await;
    }

    /// Carries a write out, notifies the subscribers, and returns when the faults allow an answer.
    async fn write<T>(&self, write: impl FnOnce(&Database) -> T) -> T {
        self.thawed().await;
        let written = write(&self.database);
        self.database.shared.end.send_replace(self.end());
        self.database.shared.faults.before_answer().await;
        written
    }
}

#[async_trait]
impl Backend for NodeBackend {
    async fn admit(&self, requires_leader: bool) -> Result<(), Refusal> {
        self.thawed().await;
        match self.node.leader() {
            Some(leader) if requires_leader => Err(Refusal::NotLeader(leader)),
            Some(_) | None => Ok(()),
        }
    }

    fn members(&self) -> Vec<Member> {
        let member = |node: &Arc<Node>| Member { id: node.id, addr: node.addr(), is_leader: node.leader().is_none() };
        self.database.nodes(|nodes| nodes.iter().map(member).collect())
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn end(&self) -> Option<WirePosition> {
        self.database.data(|data| data.end())
    }

    async fn wait_beyond(&self, end: Option<WirePosition>) -> Result<(), Refusal> {
        let grown = self.database.shared.end.subscribe().wait_for(|now| *now > end).await.map(drop);
        grown.map_err(|_| Refusal::Unavailable("the database is gone".to_owned()))
    }

    async fn subscriptions_end(&self) {
        self.database.shared.faults.subscriptions_end().await;
    }

    async fn all_forwards(&self, from: Bound<WirePosition>, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.thawed().await;
        Ok(self.database.data(|data| data.forwards(from, limit)))
    }

    async fn all_backwards(&self, before: WirePosition, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.thawed().await;
        Ok(self.database.data(|data| data.backwards(before, limit)))
    }

    async fn stream_forwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.thawed().await;
        self.database.data(|data| {
            let events = visible(data, stream)?;
            let first = events.partition_point(|event| event.revision < from);
            Ok(events.iter().skip(first).take(limit).cloned().collect())
        })
    }

    async fn stream_backwards(&self, stream: &str, from: u64, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        self.thawed().await;
        self.database.data(|data| {
            let events = visible(data, stream)?;
            let end = events.partition_point(|event| event.revision <= from);
            Ok(events.iter().take(end).rev().take(limit).cloned().collect())
        })
    }

    async fn append(&self, append: WireAppend) -> Result<Written, Refusal> {
        self.write(|database| database.data(|data| commit::append(data, append))).await
    }

    async fn delete(&self, delete: Delete) -> Result<WirePosition, Refusal> {
        self.write(|database| database.data(|data| commit::delete(data, &delete))).await
    }
}
