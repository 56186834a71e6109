//! Creates clients that are connected to a node that responds and to the database of this log.
//!
//! The first client installs the process's default crypto provider of `rustls`. If a program that embeds Taskbell has
//! already installed a provider, a task of every client panics, and all requests of that client fail with "connection
//! closed".

use std::sync::Arc;
use std::time::Duration;

use eventstore::Client;

use super::epoch;
use super::state::ClusterState;
use super::supervise::{SessionRunner, check_reachable};

/// Runs the sessions of the client that sends appends and reads. Each session connects a client and provides it to callers
/// until it is lost.
pub(super) struct ClientSessions(pub(super) Arc<ClusterState>);

impl SessionRunner for ClientSessions {
    async fn run(&mut self) -> String {
        match connect(&self.0).await {
            Ok(client) => self.0.client.provide_until_lost(client).await,
            Err(why) => why,
        }
    }

    fn session_ended(&mut self, why: String) {
        self.0.client.record_session_end(why);
    }

    fn last_session_progressed(&mut self) -> bool {
        self.0.client.reset_answered()
    }
}

/// A new client. It is connected to a node that responds and to the database of this log.
///
/// # Errors
/// Why no such client can be created.
pub(super) async fn connect(state: &ClusterState) -> Result<Client, String> {
    let settings = &state.url.settings;
    check_reachable(settings).await?;
    let client = Client::new(settings.clone()).map_err(|error| error.to_string())?;
    let nodes = u32::try_from(settings.hosts().len()).unwrap_or(u32::MAX);
    let timeout = settings.gossip_timeout().saturating_mul(nodes).saturating_add(Duration::from_secs(2));
    match tokio::time::timeout(timeout, epoch::check_epoch(&client, state)).await {
        Ok(checked) => checked.map(|()| client),
        Err(_) => Err("the node accepts connections and does not respond".to_owned()),
    }
}
