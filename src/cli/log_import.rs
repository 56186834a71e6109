//! `taskbell log import`: makes a log of an exported file, or copies the log of a data folder into a cluster.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use taskbell::OpenError;
#[cfg(feature = "eventstore")]
use taskbell::StoreUrl;
#[cfg(feature = "eventstore")]
use taskbell::internal::{ImportError, ImportProgress, Imported, claim_open_keys, import};
use taskbell::internal::{ImportLinesError, ImportedLines, import_lines};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, format_count};

#[cfg(feature = "eventstore")]
const CLUSTER_HELP: &str = "Copy the log of the data folder into this cluster, like esdb://db1,db2,db3?prefix=taskbell; no server may \
    run on this prefix yet. If it was interrupted, run the same command again";

/// Makes a log of an exported file: the same events, so the same positions and hashes. The log has another id (epoch), so that no
/// client takes its positions for those of the old one. Or copies the log of a stopped server into a cluster.
#[derive(Debug, Args)]
pub struct Import {
    /// File that `taskbell log export` has written, or `-` for stdin
    #[cfg_attr(
        feature = "eventstore",
        arg(value_name = "FILE", required_unless_present = "to", conflicts_with = "to")
    )]
    #[cfg_attr(not(feature = "eventstore"), arg(value_name = "FILE", required = true))]
    file: Option<PathBuf>,
    #[cfg(feature = "eventstore")]
    #[arg(long, value_name = "URL", help = CLUSTER_HELP)]
    to: Option<String>,
    /// Data folder of the new log, or of the log that is copied; its server must be stopped
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Import {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        #[cfg(feature = "eventstore")]
        if let Some(to) = &self.to {
            return copy_to_cluster(to, &self.data, self.connection.json).await;
        }
        let file = self.file.as_deref().unwrap_or(Path::new("-"));
        import_file(file, &self.data, self.connection.json).await
    }
}

async fn import_file(file: &Path, data: &Path, as_json: bool) -> Result<(), CommandError> {
    let unreadable = |error: io::Error| CommandError::usage(format!("{}: {error}", file.display()));
    let input: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file).map_err(unreadable)?) };
    let lines = BufReader::with_capacity(1 << 20, input).lines();
    let mut report = |position: taskbell::Position| {
        if position.0.is_multiple_of(100_000) {
            console::print_to_stderr(&format!("imported up to position {position}"));
        }
    };
    let imported = import_lines(data, lines, &mut report).await.map_err(|error| lines_failure(&error))?;
    let ImportedLines { position, hash } = imported;
    if as_json {
        return console::print_json(&json!({"position": position, "hash": hash.to_string()}).to_string());
    }
    console::print_line(&format!("{} events are imported", format_count(position.0)))?;
    console::print_line(&format!("position {position}  hash {hash}"))
}

fn lines_failure(error: &ImportLinesError) -> CommandError {
    let sentence = error.to_string();
    match error {
        ImportLinesError::NotEmpty(_) | ImportLinesError::Open(OpenError::Locked(_)) => CommandError::refused(sentence),
        ImportLinesError::Open(_)
        | ImportLinesError::Input { .. }
        | ImportLinesError::Line { .. }
        | ImportLinesError::Append(_)
        | ImportLinesError::Io(_) => CommandError::failed(sentence),
    }
}

#[cfg(feature = "eventstore")]
async fn copy_to_cluster(to: &str, data: &Path, as_json: bool) -> Result<(), CommandError> {
    if !data.join("log.db").is_file() {
        return Err(CommandError::usage(format!("--data {}: the folder contains no log", data.display())));
    }
    let to = parse_store_url("--to", to)?;
    let (imported, store) = import(data, &to, &mut print_step).await.map_err(|error| import_failure(&error))?;
    let Imported { position, hash, copied } = imported;
    let claim_failure = |error| {
        CommandError::unreachable(format!("not all keys are claimed: {error}; run the same command again to continue"))
    };
    let claims = claim_open_keys(&store).await.map_err(claim_failure)?;
    if as_json {
        let response = json!({"position": position, "hash": hash.to_string(), "copied": copied, "claims": claims});
        return console::print_json(&response.to_string());
    }
    let (events, copied, claims) = (format_count(position.0), format_count(copied), format_count(claims as u64));
    console::print_line(&format!("{to} contains the same {events} events; {copied} of them were copied now"))?;
    console::print_line(&format!("{claims} keys of its tasks are claimed for all servers"))?;
    console::print_line(&format!("position {position}  hash {hash}"))
}

/// Parses the address of a cluster. clap doesn't parse it, because clap prints an invalid value and the address may
/// contain a password.
#[cfg(feature = "eventstore")]
pub(super) fn parse_store_url(flag: &str, url: &str) -> Result<StoreUrl, CommandError> {
    url.parse().map_err(|error| CommandError::usage(format!("{flag}: {error}")))
}

#[cfg(feature = "eventstore")]
fn print_step(step: ImportProgress) {
    match step {
        ImportProgress::Copied(position) => console::print_to_stderr(&format!("copied up to position {position}")),
        ImportProgress::Verified(position) => console::print_to_stderr(&format!("compared up to position {position}")),
    }
}

#[cfg(feature = "eventstore")]
fn import_failure(error: &ImportError) -> CommandError {
    let sentence = error.to_string();
    match error {
        ImportError::Open(OpenError::Locked(_)) | ImportError::Refused(_) | ImportError::EventTooLarge(_) => {
            CommandError::refused(sentence)
        }
        ImportError::Open(_) | ImportError::Source(_) | ImportError::Different(_) => CommandError::failed(sentence),
        ImportError::Unreachable { .. } => {
            CommandError::unreachable(format!("{sentence}; run the same command again to continue"))
        }
    }
}
