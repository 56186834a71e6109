//! `taskbell log import`: the move from the log in a folder to a cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use taskbell::OpenError;
use taskbell::internal::{ImportError, Imported, Step, StoreUrl, import};

use super::client::Connect;
use super::failure::Failure;
use super::out;

/// Copies the log of a stopped server into a cluster.
#[derive(Debug, Args)]
pub struct Import {
    /// The cluster, like esdb://db1,db2,db3?prefix=taskbell; no server may run on this prefix yet
    #[arg(long, value_name = "URL")]
    to: StoreUrl,
    /// Folder of the log to copy; its server is stopped
    #[arg(long, env = "TASKBELL_DATA", value_name = "DIR", default_value = "./taskbell-data")]
    data: PathBuf,
    #[arg(skip)]
    pub(super) connect: Connect,
}

impl Import {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let Self { to, data, connect } = self;
        if !data.join("log.db").is_file() {
            return Err(Failure::usage(format!("--data {}: there is no log", data.display())));
        }
        let imported = import(&data, &to, &mut report).await.map_err(failure)?;
        let Imported { position, hash, copied } = imported;
        if connect.json {
            return out::json(&json!({"position": position, "hash": hash.to_string(), "copied": copied}).to_string());
        }
        let (events, copied) = (out::thousands(position.0), out::thousands(copied));
        out::line(&format!("{to} holds the same {events} events, {copied} of them copied now"))?;
        out::line(&format!("position {position}  hash {hash}"))
    }
}

fn report(step: Step) {
    match step {
        Step::Copied(position) => out::note(&format!("copied up to position {position}")),
        Step::Verified(position) => out::note(&format!("compared up to position {position}")),
    }
}

fn failure(error: ImportError) -> Failure {
    let sentence = error.to_string();
    match error {
        ImportError::Open(OpenError::Locked(_)) | ImportError::Refused(_) => Failure::refused(sentence),
        ImportError::Open(_) | ImportError::Source(_) | ImportError::Different(_) => Failure::failed(sentence),
        ImportError::Unreachable { .. } => {
            Failure::unreachable(format!("{sentence}; run the same command to continue"))
        }
    }
}
