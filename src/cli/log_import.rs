//! `taskbell log import`: the move from the log in a folder to a cluster.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use taskbell::internal::{ImportError, Imported, Step, claim_open_keys, import};
use taskbell::{OpenError, StoreUrl};

use super::client::Connect;
use super::failure::Failure;
use super::out;

const CLUSTER: &str = "The cluster, like esdb://db1,db2,db3?prefix=taskbell; no server may run on this prefix yet";

/// Copies the log of a stopped server into a cluster.
#[derive(Debug, Args)]
pub struct Import {
    #[arg(long, value_name = "URL", help = CLUSTER)]
    to: String,
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
        let to = parsed("--to", &to)?;
        let (imported, store) = import(&data, &to, &mut report).await.map_err(|error| failure(&error))?;
        let Imported { position, hash, copied } = imported;
        let unclaimed = |error| {
            Failure::unreachable(format!("not all keys are claimed: {error}; run the same command to continue"))
        };
        let claims = claim_open_keys(&store).await.map_err(unclaimed)?;
        if connect.json {
            let answer = json!({"position": position, "hash": hash.to_string(), "copied": copied, "claims": claims});
            return out::json(&answer.to_string());
        }
        let (events, copied, claims) =
            (out::thousands(position.0), out::thousands(copied), out::thousands(claims as u64));
        out::line(&format!("{to} holds the same {events} events, {copied} of them copied now"))?;
        out::line(&format!("{claims} keys of its tasks are claimed for all servers"))?;
        out::line(&format!("position {position}  hash {hash}"))
    }
}

/// The address of a cluster. It may hold a password, so clap doesn't parse it: it would print an invalid one.
pub(super) fn parsed(flag: &str, url: &str) -> Result<StoreUrl, Failure> {
    url.parse().map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

fn report(step: Step) {
    match step {
        Step::Copied(position) => out::note(&format!("copied up to position {position}")),
        Step::Verified(position) => out::note(&format!("compared up to position {position}")),
    }
}

fn failure(error: &ImportError) -> Failure {
    let sentence = error.to_string();
    match error {
        ImportError::Open(OpenError::Locked(_)) | ImportError::Refused(_) => Failure::refused(sentence),
        ImportError::Open(_) | ImportError::Source(_) | ImportError::Different(_) => Failure::failed(sentence),
        ImportError::Unreachable { .. } => {
            Failure::unreachable(format!("{sentence}; run the same command to continue"))
        }
    }
}
