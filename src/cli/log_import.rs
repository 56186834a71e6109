//! `taskbell log import`: copies the log of a data folder into a cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use taskbell::internal::{ImportError, ImportProgress, Imported, claim_open_keys, import};
use taskbell::{OpenError, StoreUrl};

use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console;

const CLUSTER_HELP: &str = "The cluster, like esdb://db1,db2,db3?prefix=taskbell; no server may run on this prefix yet";

/// Copies the log of a stopped server into a cluster.
#[derive(Debug, Args)]
pub struct Import {
    #[arg(long, value_name = "URL", help = CLUSTER_HELP)]
    to: String,
    /// Data folder whose log is copied; its server must be stopped
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Import {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let Self { to, data, connection } = self;
        if !data.join("log.db").is_file() {
            return Err(CommandError::usage(format!("--data {}: the folder contains no log", data.display())));
        }
        let to = parse_store_url("--to", &to)?;
        let (imported, store) = import(&data, &to, &mut print_step).await.map_err(|error| import_failure(&error))?;
        let Imported { position, hash, copied } = imported;
        let claim_failure = |error| {
            CommandError::unreachable(format!(
                "not all keys are claimed: {error}; run the same command again to continue"
            ))
        };
        let claims = claim_open_keys(&store).await.map_err(claim_failure)?;
        if connection.json {
            let response = json!({"position": position, "hash": hash.to_string(), "copied": copied, "claims": claims});
            return console::print_json(&response.to_string());
        }
        let (events, copied, claims) =
            (console::format_count(position.0), console::format_count(copied), console::format_count(claims as u64));
        console::print_line(&format!("{to} contains the same {events} events; {copied} of them were copied now"))?;
        console::print_line(&format!("{claims} keys of its tasks are claimed for all servers"))?;
        console::print_line(&format!("position {position}  hash {hash}"))
    }
}

/// Parses the address of a cluster. clap doesn't parse it, because clap prints an invalid value and the address may
/// contain a password.
pub(super) fn parse_store_url(flag: &str, url: &str) -> Result<StoreUrl, CommandError> {
    url.parse().map_err(|error| CommandError::usage(format!("{flag}: {error}")))
}

fn print_step(step: ImportProgress) {
    match step {
        ImportProgress::Copied(position) => console::print_to_stderr(&format!("copied up to position {position}")),
        ImportProgress::Verified(position) => console::print_to_stderr(&format!("compared up to position {position}")),
    }
}

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
