//! `taskbell log sign`: reads the whole log of a server, checks its chain of hashes, and signs a checkpoint.

use std::path::PathBuf;

use clap::Args;
use futures_util::StreamExt as _;
use taskbell::internal::{Hash, Recorded, merkle, now};

use super::checkpoint::{Checkpoint, SigningKey};
use super::client::{Client, ConnectionArgs};
use super::command_error::CommandError;
use super::console;

/// Signs what the log contains up to its end. Kept elsewhere, the checkpoint shows later whether an event was changed or removed,
/// and `log prove` uses it. Needs the role admin.
#[derive(Debug, Args)]
pub struct Sign {
    /// Private Ed25519 key in PEM: `openssl genpkey -algorithm ed25519 -out FILE`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Sign {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let key = SigningKey::read(&self.key)?;
        let client = self.connection.client()?;
        let position = client.get("/v1/log/head", &[]).await?.body["position"].as_u64().unwrap_or_default();
        let hashes = read_hashes(&client, position, |_, _| ()).await?;
        let hash = hashes.last().copied().unwrap_or(Hash::ZERO);
        let checkpoint = Checkpoint::sign(position, hash.to_string(), merkle::root(&hashes).to_string(), now(), &key);
        let text = serde_json::to_string(&checkpoint).map_err(|error| CommandError::failed(error.to_string()))?;
        console::print_line(&text)
    }
}

/// Reads the events up to this position, checks that each continues the chain of hashes, and calls `on_event` with it and its line.
/// Returns the hashes.
pub(super) async fn read_hashes(
    client: &Client,
    position: u64,
    mut on_event: impl FnMut(&Recorded, &str),
) -> Result<Vec<Hash>, CommandError> {
    let mut hashes: Vec<Hash> = Vec::new();
    if position == 0 {
        return Ok(hashes);
    }
    let query = [("after", "0".to_owned()), ("limit", position.to_string())];
    let mut lines = client.lines("/v1/log", &query).await?;
    while let Some(line) = lines.next().await.transpose()? {
        let event = Recorded::from_json(&line).map_err(|error| CommandError::failed(error.to_string()))?;
        let previous = hashes.last().copied().unwrap_or(Hash::ZERO);
        let next = hashes.len() as u64 + 1;
        if event.position.0 != next || event.expected_hash(previous) != event.hash {
            return Err(CommandError::failed(format!(
                "event {next} is missing or doesn't continue the chain of hashes"
            )));
        }
        on_event(&event, &line);
        hashes.push(event.hash);
    }
    if hashes.len() as u64 == position {
        return Ok(hashes);
    }
    Err(CommandError::failed(format!("only {} of {position} events have arrived", hashes.len())))
}
