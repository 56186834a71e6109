//! Hashes of the views, with which two views are compared: those of a running server and those of a fresh fold of its log.

use std::fmt::Debug;

use serde::Serialize;

use super::bell::Owner;
use super::block::RowRef;
use super::blocks::RowBlocks;
use super::{Views, WaitingFor};
use crate::task::Position;

/// The hashes of the parts of the views, in hexadecimal. Equal views have equal hashes on every server of the same release. The
/// progress of running attempts is not part of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Digests {
    /// The position and the time of the last event, and all tasks in the order of their creation.
    pub tasks: String,
    /// The counters: of each owner with what the owner has seen, of each kind and queue, and of all tasks.
    pub counters: String,
    /// The idempotency keys and the unique keys.
    pub keys: String,
    /// The paused queues and the schedules.
    pub queues_and_schedules: String,
    /// The API tokens and the sessions, with the hashes of their secrets.
    pub credentials: String,
}

/// What digests are computed from. It shares the rows with the views, so the views may change meanwhile.
#[derive(Debug)]
pub struct DigestSource {
    position: Position,
    /// Without the rows.
    digests: Digests,
    /// With the position and the time.
    tasks: blake3::Hasher,
    rows: RowBlocks,
}

impl Views {
    /// Hashes everything but the rows: about 0.3 µs for each key of a client and for each owner.
    #[must_use]
    pub fn digest_source(&self) -> DigestSource {
        let digests = Digests {
            tasks: String::new(),
            counters: self.digest_of_counters(),
            keys: self.digest_of_keys(),
            queues_and_schedules: hex(&[&self.paused_queues as &dyn Debug, &self.schedules]),
            credentials: hex(&[&self.credentials as &dyn Debug]),
        };
        let mut tasks = blake3::Hasher::new();
        add(&mut tasks, &format!("{} {:?} {:?}", self.position, self.time, self.latest));
        DigestSource { position: self.position, digests, tasks, rows: self.rows.clone() }
    }

    fn digest_of_counters(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut owners: Vec<&Owner> = self.owners.list.iter().collect();
        owners.sort_unstable_by_key(|owner| &*owner.name);
        for owner in owners {
            add(&mut hasher, &format!("{} {:?} {:?} {}", owner.name, owner.counts, owner.unseen, owner.seen));
        }
        let mut keys: Vec<_> = self.counters.with_keys(0..self.counters.keys().len()).collect();
        keys.sort_unstable_by_key(|entry| (&entry.key.owner, &entry.key.kind, &entry.key.queue));
        for entry in keys {
            let ends = entry.ends.after(Position(0));
            add(&mut hasher, &format!("{} {} {:?} {ends:?}", entry.key.kind, entry.key.queue, entry.counts));
        }
        add(&mut hasher, &format!("{:?} {:?}", self.counters.total(), self.ends.after(Position(0))));
        hasher.finalize().to_hex().to_string()
    }

    /// The keys are in no order, so the sum of their hashes is the digest.
    fn digest_of_keys(&self) -> String {
        let mut sum = [0_u64; 4];
        let mut add_entry = |text: String| {
            let hash = blake3::hash(text.as_bytes());
            for (sum, word) in sum.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
                *sum = sum.wrapping_add(word.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
            }
        };
        for (caller, keys) in &self.idempotency_keys {
            for (key, (task, hash)) in keys {
                add_entry(format!("{caller:?} {key:?} {task} {hash:?}"));
            }
        }
        for (owner, keys) in &self.unique_keys {
            let owner = self.owners.list.get(*owner).map_or("", |owner| &*owner.name);
            for (key, task) in keys {
                add_entry(format!("{owner:?} {key:?} {task}"));
            }
        }
        sum.map(|word| format!("{word:016x}")).concat()
    }

    /// One hash of everything.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn digest(&self) -> String {
        hex(&[&self.digest_source().finish()])
    }
}

impl DigestSource {
    /// Position of the last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// Hashes the rows too. This reads every task: about 2 µs for each.
    #[must_use]
    pub fn finish(self) -> Digests {
        let Self { digests, mut tasks, rows, .. } = self;
        for row in rows.iter().map(RowRef::row) {
            // A row that can't be read, which would be a defect, leads to another hash.
            let doc =
                row.as_ref().map(|row| serde_json::to_string(&row.doc(WaitingFor::Worker, None)).unwrap_or_default());
            add(&mut tasks, &doc.unwrap_or_default());
            let rest = row.map(|row| {
                let positions = (row.created_position(), row.ended_position());
                format!("{positions:?} {:?} {:?} {:?}", row.lease_hash(), row.unique_key(), row.concurrency_key())
            });
            add(&mut tasks, &rest.unwrap_or_default());
        }
        Digests { tasks: tasks.finalize().to_hex().to_string(), ..digests }
    }
}

/// Adds the text and its length, so that the same texts with other borders lead to another hash.
fn add(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn hex(values: &[&dyn Debug]) -> String {
    let mut hasher = blake3::Hasher::new();
    for value in values {
        add(&mut hasher, &format!("{value:?}"));
    }
    hasher.finalize().to_hex().to_string()
}
