//! `taskbell log prove`: the events of one task with a proof that they are in a log whose checkpoint was signed, and its check
//! without the log.

use std::fs;
use std::path::PathBuf;
use std::str::FromStr as _;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use taskbell::TaskId;
use taskbell::internal::{Hash, Recorded, merkle};

use super::checkpoint::{Checkpoint, read_public_key};
use super::client::ConnectionArgs;
use super::command_error::CommandError;
use super::console::{self, text_field};
use super::log_sign::read_hashes;

/// Prints the events of a task with a proof that they are in the log of a signed checkpoint. `taskbell log check` checks it without
/// a server. Needs the role admin.
#[derive(Debug, Args)]
pub struct Prove {
    /// Id of the task
    id: TaskId,
    /// File that `taskbell log sign` has printed
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

/// Checks a proof, without a server and without the log: the signature of the checkpoint, and that each event is in its log at its
/// position. A proof doesn't show that the task has no later event.
#[derive(Debug, Args)]
pub struct Check {
    /// File that `taskbell log prove` has printed
    proof: PathBuf,
    /// Public key of the operator in PEM: `openssl pkey -in KEY -pubout -out FILE`
    #[arg(long, value_name = "FILE")]
    public_key: PathBuf,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

/// The events of a task, and what proves them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    task: TaskId,
    checkpoint: Checkpoint,
    events: Vec<ProvedEvent>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProvedEvent {
    /// As the log has it, byte for byte.
    event: Box<RawValue>,
    /// The hash of the event before it in the log.
    previous: String,
    /// The hashes beside the way from the event to the root of the tree, the lowest first.
    path: Vec<String>,
}

impl Prove {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let client = self.connection.client()?;
        let stream = format!("task-{}", self.id);
        let mut found: Vec<(u64, String)> = Vec::new();
        let keep = |event: &Recorded, line: &str| {
            if event.stream.as_str() == stream {
                found.push((event.position.0, line.to_owned()));
            }
        };
        let hashes = read_hashes(&client, checkpoint.position, keep).await?;
        if merkle::root(&hashes).to_string() != checkpoint.root {
            return Err(CommandError::failed("the log is not the one of the checkpoint: its root differs".to_owned()));
        }
        if found.is_empty() {
            let position = checkpoint.position;
            return Err(CommandError::not_found(format!("the log up to position {position} has no task {}", self.id)));
        }
        let prove = |(position, line): (u64, String)| {
            let index = usize::try_from(position - 1).unwrap_or(usize::MAX);
            let previous = index.checked_sub(1).and_then(|before| hashes.get(before)).copied().unwrap_or(Hash::ZERO);
            let path = merkle::path(&hashes, index).iter().map(Hash::to_string).collect();
            let event = RawValue::from_string(line)?;
            Ok(ProvedEvent { event, previous: previous.to_string(), path })
        };
        let events = found.into_iter().map(prove).collect::<Result<_, serde_json::Error>>();
        let proof = events.map(|events| Proof { task: self.id, checkpoint, events });
        let text = proof.and_then(|proof| serde_json::to_string(&proof));
        console::print_line(&text.map_err(|error| CommandError::failed(error.to_string()))?)
    }
}

impl Check {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let key = read_public_key(&self.public_key)?;
        let text = fs::read_to_string(&self.proof)
            .map_err(|error| CommandError::usage(format!("{}: {error}", self.proof.display())))?;
        let proof: Proof = serde_json::from_str(&text)
            .map_err(|error| CommandError::usage(format!("{}: not a proof: {error}", self.proof.display())))?;
        proof.checkpoint.check(&key)?;
        let mut lines = Vec::new();
        for (revision, proved) in (0..).zip(&proof.events) {
            let event = proved.check(&proof, revision)?;
            let shown = serde_json::to_value(&event).map_err(|error| CommandError::failed(error.to_string()))?;
            let [position, time, name] = ["position", "time", "type"].map(|field| text_field(&shown, field));
            lines.push(format!("{position:>8}  {time}  {name}  by {}", console::escape(&event.meta.actor)));
        }
        if lines.is_empty() {
            return Err(CommandError::failed("the proof has no event".to_owned()));
        }
        let Proof { task, checkpoint: Checkpoint { position, time, .. }, .. } = &proof;
        if self.connection.json {
            let answer =
                serde_json::json!({"task": task, "events": lines.len(), "position": position, "signed_at": time});
            return console::print_json(&answer.to_string());
        }
        console::print_line(&format!(
            "proved: task {task} has these events in the log of {position} events, signed at {time}"
        ))?;
        lines.iter().try_for_each(|line| console::print_line(line))
    }
}

impl ProvedEvent {
    /// The event, if it is the one of this revision of the task and in the log of the checkpoint.
    fn check(&self, proof: &Proof, revision: u64) -> Result<Recorded, CommandError> {
        let event = Recorded::from_json(self.event.get()).map_err(|error| CommandError::failed(error.to_string()))?;
        let position = event.position;
        let refused = |why: &str| CommandError::failed(format!("event {position}: {why}"));
        if event.stream.as_str() != format!("task-{}", proof.task) || event.revision.0 != revision {
            return Err(refused("it is not the next event of the task"));
        }
        let hash = |text: &String| Hash::from_str(text).map_err(|_| refused("a hash of the proof is not valid"));
        if event.expected_hash(hash(&self.previous)?) != event.hash {
            return Err(refused("its contents don't have its hash"));
        }
        let path = self.path.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
        let index = position.0.checked_sub(1).ok_or_else(|| refused("positions begin at 1"))?;
        let root = merkle::root_of_path(event.hash, index, proof.checkpoint.position, &path);
        if root.map(|root| root.to_string()).as_ref() != Some(&proof.checkpoint.root) {
            return Err(refused("it is not in the log of the checkpoint"));
        }
        Ok(event)
    }
}
