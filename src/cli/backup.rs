//! `taskbell backup`: copies the log of a data folder, also while its server runs.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use taskbell::internal::{BackupError, Verified, backup_log};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};

/// Copies the log to a folder and checks every event of the copy. The server may run meanwhile. To restore, copy the file log.db into
/// an empty data folder, and start the server once with --accept-truncation: the log gets a new id, so that clients don't trust
/// positions of the old one.
#[derive(Debug, Args)]
pub struct Backup {
    /// Folder for the copy; it must not have a log
    target: PathBuf,
    /// Data folder of the log
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Backup {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Verified { position, hash, .. } = backup_log(&self.data, &self.target).map_err(|error| failure(&error))?;
        let copy = self.target.join("log.db");
        if self.connection.json {
            let answer = json!({"file": copy.display().to_string(), "position": position, "hash": hash.to_string()});
            return console::print_json(&answer.to_string());
        }
        let sentence = format!("{} has {} events, each as it was written", copy.display(), format_count(position.0));
        console::print_line(&console::escape(&sentence))?;
        console::print_line(&format!("position {position}  hash {hash}"))
    }
}

fn failure(error: &BackupError) -> CommandError {
    let sentence = error.to_string();
    match error {
        BackupError::NoLog(_) => CommandError::usage(format!("--data {sentence}")),
        BackupError::Exists(_) => CommandError::refused(sentence),
        BackupError::Open(_) | BackupError::Io { .. } | BackupError::Verify(_) | BackupError::Damaged(_) => {
            CommandError::failed(sentence)
        }
    }
}
