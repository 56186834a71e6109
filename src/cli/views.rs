//! `taskbell views`: proves that the views of a server are those of its log, and rebuilds them.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use taskbell::internal::{Rebuilt, Refold, rebuild_views};
use taskbell::{OpenError, StartError};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count, text_field};

/// Compares and rebuilds what a server computes from its log.
#[derive(Debug, Subcommand)]
pub enum Views {
    /// Read the whole log of a running server, check its chain of hashes, and compare its views with a fresh fold
    Verify(Verify),
    /// Fold the log of a stopped server from the beginning, and write a new snapshot
    Rebuild(Rebuild),
}

/// Needs the role admin, because an auditor doesn't get the inputs and results that the hashes cover.
#[derive(Debug, Args)]
pub struct Verify {
    #[arg(skip)]
    connection: ConnectionArgs,
}

#[derive(Debug, Args)]
pub struct Rebuild {
    /// Data folder; its server must be stopped
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    connection: ConnectionArgs,
}

impl Views {
    pub(super) const fn connection(&mut self) -> &mut ConnectionArgs {
        match self {
            Self::Verify(verify) => &mut verify.connection,
            Self::Rebuild(rebuild) => &mut rebuild.connection,
        }
    }

    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::Verify(verify) => verify.run().await,
            Self::Rebuild(rebuild) => rebuild.run().await,
        }
    }
}

impl Verify {
    async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        let shown = client.get("/v1/views/digest", &[]).await?.body;
        let position = shown["position"].as_u64().unwrap_or_default();
        let mut refold = Refold::default();
        let bar = progress_bar(position);
        if position > 0 {
            let query = [("after", "0".to_owned()), ("limit", position.to_string())];
            let mut lines = client.lines("/v1/log", &query).await?;
            while let Some(line) = lines.next().await.transpose()? {
                let applied = refold.apply(&line).map_err(|error| CommandError::failed(error.to_string()))?;
                bar.set_position(applied.0);
            }
        }
        bar.finish_and_clear();
        let folded = serde_json::to_value(refold.digests()).map_err(|error| CommandError::failed(error.to_string()))?;
        let differing = differing_parts(&shown["digests"], &folded);
        if self.connection.json {
            let answer = json!({"equal": differing.is_empty(), "position": position, "hash": refold.hash().to_string(),
                "differing": differing});
            console::print_json(&answer.to_string())?;
        } else if differing.is_empty() {
            console::print_line(&format!(
                "equal: {} events, each continues the chain; the views of the server are those of a fresh fold",
                format_count(position)
            ))?;
            console::print_line(&format!("position {position}  hash {}", refold.hash()))?;
        }
        if differing.is_empty() {
            return Ok(());
        }
        Err(CommandError::failed(format!("not equal at position {position}: {}", differing.join(", "))))
    }
}

/// The names of the parts whose hashes differ.
fn differing_parts(shown: &Value, folded: &Value) -> Vec<String> {
    let parts = folded.as_object().into_iter().flatten().map(|(name, _)| name);
    parts.filter(|part| text_field(shown, part) != text_field(folded, part)).cloned().collect()
}

impl Rebuild {
    async fn run(self) -> Result<(), CommandError> {
        let rebuilt = rebuild_views(&self.data).await.map_err(|error| match error {
            StartError::Open(OpenError::Locked(_)) => CommandError::refused(format!(
                "a server uses the data folder {}: stop it, and run this command again",
                self.data.display()
            )),
            other => CommandError::failed(other.to_string()),
        });
        let Rebuilt { position, tasks } = rebuilt?;
        if self.connection.json {
            return console::print_json(&json!({"position": position, "tasks": tasks}).to_string());
        }
        console::print_line(&format!("the views are rebuilt: {} tasks at position {position}", format_count(tasks)))
    }
}

/// A bar on stderr, if that is a terminal.
fn progress_bar(events: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} events, {per_sec}, {eta} left");
    let bar = ProgressBar::new(events);
    style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
}
