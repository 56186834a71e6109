//! `taskbell log upgrade`: converts the log of a data folder to the present format.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use taskbell::OpenError;
use taskbell::internal::{UpgradeError, UpgradeStep, Upgraded, upgrade};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};

/// Progress of a long log is printed about this many times for each phase.
const LINES: u64 = 100;
/// The number of events between two lines, at least.
const LINE_EVENTS: u64 = 10_000;

/// Converts the log of a stopped server to the present format.
#[derive(Debug, Args)]
pub struct Upgrade {
    /// Data folder whose log is converted; its server must be stopped. The old file stays as log.db.format1
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Upgrade {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let Self { data, connection } = self;
        match upgrade(&data, &mut print_step).map_err(|error| upgrade_failure(&error))? {
            None => print_nothing(&data, connection.json),
            Some(upgraded) => print_upgraded(&data, &upgraded, connection.json),
        }
    }
}

fn print_nothing(data: &Path, as_json: bool) -> Result<(), CommandError> {
    if as_json {
        return console::print_json(&json!({"upgraded": false}).to_string());
    }
    let sentence = format!("nothing to do: the log in {} has the present format", data.display());
    console::print_line(&console::escape(&sentence))
}

fn print_upgraded(data: &Path, upgraded: &Upgraded, as_json: bool) -> Result<(), CommandError> {
    let Upgraded { events, hash, bytes_before, bytes_after, old_file } = upgraded;
    if as_json {
        let response = json!({
            "upgraded": true,
            "events": events,
            "hash": hash.to_string(),
            "bytes_before": bytes_before,
            "bytes_after": bytes_after,
            "old_file": old_file.display().to_string(),
        });
        return console::print_json(&response.to_string());
    }
    let [events, before, after] = [*events, *bytes_before, *bytes_after].map(format_count);
    let log = data.join("log.db");
    let sentence = format!("{} holds the same {events} events in {after} bytes instead of {before}", log.display());
    console::print_line(&console::escape(&sentence))?;
    console::print_line(&format!("position {events}  hash {hash}"))?;
    let sentence = format!("the old file is {}: remove it when you don't need it any more", old_file.display());
    console::print_line(&console::escape(&sentence))
}

fn print_step(step: UpgradeStep) {
    let (done, position, last) = match step {
        UpgradeStep::Copied { position, last } => ("copied", position.0, last.0),
        UpgradeStep::Verified { position, last } => ("verified", position.0, last.0),
        UpgradeStep::OldFileCompleted
        | UpgradeStep::NewFileCreated
        | UpgradeStep::NewFileSynced
        | UpgradeStep::WriteAheadLogRemoved
        | UpgradeStep::OldFileKept
        | UpgradeStep::Renamed => return,
    };
    // The steps come at multiples of 1,000 events, and at the end.
    let between_lines = (last / LINES).next_multiple_of(LINE_EVENTS).max(LINE_EVENTS);
    if position == last || position.is_multiple_of(between_lines) {
        console::print_to_stderr(&format!("{done} {} of {} events", format_count(position), format_count(last)));
    }
}

fn upgrade_failure(error: &UpgradeError) -> CommandError {
    let sentence = error.to_string();
    match error {
        UpgradeError::NoLog(_) => CommandError::usage(format!("--data {sentence}")),
        UpgradeError::Open(OpenError::Locked(_) | OpenError::Newer { .. }) | UpgradeError::Busy(_) => {
            CommandError::refused(sentence)
        }
        UpgradeError::Open(_) | UpgradeError::Damaged(_) | UpgradeError::Different(_) => CommandError::failed(sentence),
    }
}
