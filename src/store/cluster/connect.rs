//! New clients: connected to a node that answers, and to the database of this log.
//!
//! The first client installs the process's default provider of `rustls`. Where a program that embeds Taskbell has installed
//! one before, every client panics in a task of its own: all its requests say that the connection is closed.

use std::sync::Arc;
use std::time::Duration;

use eventstore::Client;

use super::epoch;
use super::shared::Shared;
use super::supervise::{Session, reachable};

/// The session of the client that sends appends and reads: connects it, and offers it until it is lost.
pub(super) struct Connecting(pub(super) Arc<Shared>);

impl Session for Connecting {
    async fn run(&mut self) -> String {
        match connect(&self.0).await {
            Ok(client) => self.0.connection.offer(client).await,
            Err(why) => why,
        }
    }

    fn ended(&mut self, why: String) {
        self.0.connection.ended(why);
    }

    fn has_progressed(&mut self) -> bool {
        self.0.connection.take_has_answered()
    }
}

/// A new client that is connected to a node which answers, and to the database of this log.
pub(super) async fn connect(shared: &Shared) -> Result<Client, String> {
    let settings = &shared.url.settings;
    reachable(settings).await?;
    let client = Client::new(settings.clone()).map_err(|error| error.to_string())?;
    let nodes = u32::try_from(settings.hosts().len()).unwrap_or(u32::MAX);
    let patience = settings.gossip_timeout().saturating_mul(nodes).saturating_add(Duration::from_secs(2));
    match tokio::time::timeout(patience, epoch::check(&client, shared)).await {
        Ok(checked) => checked.map(|()| client),
        Err(_) => Err("the node accepts connections and does not answer".to_owned()),
    }
}
