//! `taskbell log import`: copies the log of a data folder into a cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use taskbell::internal::{ImportError, ImportProgress, Imported, claim_open_keys, import};
use taskbell::{OpenError, StoreUrl};

use super::client::ConnectionArgs;
use super::failure::Failure;
use super::out;

const CLUSTER_HELP: &str = "The cluster, like esdb://db1,db2,db3?prefix=taskbell; no server may run on this prefix yet";

/// Copies the log of a stopped server into a cluster.
#[derive(Debug, Args)]
pub struct Import {
    #[arg(long, value_name = "URL", help = CLUSTER_HELP)]
    to: String,
    /// Folder of the log to copy; its server is stopped
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

impl Import {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { to, data, connection } = self;
        if !data.join("log.db").is_file() {
            return Err(Failure::usage(format!("--data {}: there is no log", data.display())));
        }
        let to = parse_store_url("--to", &to)?;
        let (imported, store) = import(&data, &to, &mut print_step).await.map_err(|error| import_failure(&error))?;
        let Imported { position, hash, copied } = imported;
        let claim_failure = |error| {
            Failure::unreachable(format!("not all keys are claimed: {error}; run the same command to continue"))
        };
        let claims = claim_open_keys(&store).await.map_err(claim_failure)?;
        if connection.json {
            let response = json!({"position": position, "hash": hash.to_string(), "copied": copied, "claims": claims});
            return out::print_json(&response.to_string());
        }
        let (events, copied, claims) =
            (out::format_count(position.0), out::format_count(copied), out::format_count(claims as u64));
        out::print_line(&format!("{to} holds the same {events} events, {copied} of them copied now"))?;
        out::print_line(&format!("{claims} keys of its tasks are claimed for all servers"))?;
        out::print_line(&format!("position {position}  hash {hash}"))
    }
}

/// Parses the address of a cluster. clap doesn't parse it, because clap prints an invalid value and the address may
/// contain a password.
pub(super) fn parse_store_url(flag: &str, url: &str) -> Result<StoreUrl, Failure> {
    url.parse().map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

fn print_step(step: ImportProgress) {
    match step {
        ImportProgress::Copied(position) => out::print_to_stderr(&format!("copied up to position {position}")),
        ImportProgress::Verified(position) => out::print_to_stderr(&format!("compared up to position {position}")),
    }
}

fn import_failure(error: &ImportError) -> Failure {
    let sentence = error.to_string();
    match error {
        ImportError::Open(OpenError::Locked(_)) | ImportError::Refused(_) | ImportError::EventTooLarge(_) => {
            Failure::refused(sentence)
        }
        ImportError::Open(_) | ImportError::Source(_) | ImportError::Different(_) => Failure::failed(sentence),
        ImportError::Unreachable { .. } => {
            Failure::unreachable(format!("{sentence}; run the same command to continue"))
        }
    }
}
