//! Tests with several servers on one log in a stand-in for the database. Each server is a process, so that a test can
//! kill it. The database runs in the test's own process, so that a test can stop it, disturb it and read its contents.

#![allow(dead_code)] // each module uses its part

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use taskbell::wire::stand_in::Database;
use taskbell::wire::stand_in::NodeHandle as Node;

use crate::support::{LiveSocket, Server};

mod embedded;
mod keys;
mod kills;
mod leases;
mod outage;
mod settings;
mod shared;
mod soak;
mod tokens;
mod watch;

/// A database with one node, which servers reach by its address.
pub struct Cluster {
    pub database: Database,
    addr: SocketAddr,
    node: Option<Node>,
}

impl Cluster {
    pub async fn start() -> Self {
        let database = Database::new();
        let any_port = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let node = database.serve(any_port).await.unwrap();
        Self { database, addr: node.addr(), node: Some(node) }
    }

    /// Stops the node without closing its connections in order. The written events stay in the database.
    pub async fn stop(&mut self) {
        self.node.take().expect("the node runs").stop().await;
    }

    /// Starts the node again, on the same port.
    pub async fn restart(&mut self) {
        self.node = Some(self.database.serve(self.addr).await.unwrap());
    }

    /// The address of the node.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The address for `--store`.
    pub fn url(&self) -> String {
        url(self.addr, "taskbell")
    }

    /// A new server. It may not have received the log yet.
    pub fn server<A: IntoIterator<Item: Into<OsString>>>(&self, args: A) -> Server {
        Server::on_cluster(&self.url(), args)
    }

    /// New servers that are ready.
    pub async fn servers<const N: usize>(&self) -> [Server; N] {
        let servers = std::array::from_fn(|_| self.server::<[&str; 0]>([]));
        for server in &servers {
            wait_until_fresh(server).await;
            let ready = server.get("/readyz").await;
            assert_eq!(ready.status, 200, "{}", ready.text);
        }
        servers
    }

    /// The number of events in the log.
    pub fn event_count(&self) -> u64 {
        let all = self.database.all();
        all.iter().filter(|event| event.stream.starts_with("taskbell.")).count() as u64
    }
}

/// The value of `--store` for the node or proxy at this address.
pub fn url(addr: SocketAddr, prefix: &str) -> String {
    format!("esdb://{addr}?tls=false&prefix={prefix}")
}

/// Waits until the server says on its websocket that its views show the whole log.
pub async fn wait_until_fresh(server: &Server) {
    until_fresh(LiveSocket::open(server).await).await;
}

/// Waits until the server says on this websocket that its views show the whole log.
pub async fn until_fresh(mut live: LiveSocket) {
    let mut frame = live.next().await;
    while !(has_freshness(&frame) && frame["stale_since"].is_null()) {
        frame = live.next().await;
    }
}

/// Waits until the server says on its websocket that its views are stale. Returns the time since when they are.
pub async fn wait_until_stale(server: &Server) -> String {
    let mut live = LiveSocket::open(server).await;
    loop {
        let frame = live.next().await;
        if let Some(since) = frame["stale_since"].as_str() {
            return since.to_owned();
        }
    }
}

/// Whether the frame says if the views are stale.
fn has_freshness(frame: &Value) -> bool {
    frame["type"] == "hello" || frame["type"] == "beat"
}

/// Takes a lease of a task of this kind. Waits until there is one.
pub async fn take_lease(server: &Server, worker: &str, kind: &str) -> Value {
    let body = json!({"worker": worker, "kinds": [kind], "wait_s": 30});
    let mut answer = server.post("/v1/leases", &body).await;
    // While the log can't be written, a worker is refused, and asks again.
    while answer.status == 503 {
        answer.assert_problem(503, "log_unavailable");
        answer = server.post("/v1/leases", &body).await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["leases"]
        .as_array()
        .and_then(|leases| leases.first().cloned())
        .unwrap_or_else(|| panic!("{}", answer.text))
}

/// The counters of the local user, at this position or a later one.
pub async fn counters(server: &Server, position: u64) -> Value {
    let answer = server.get(&format!("/v1/counters?min_position={position}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}
