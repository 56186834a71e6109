//! A hash of the views, with which tests compare two of them.

use super::bell::Owner;
use super::{Credentials, Views, WaitingFor};

impl Views {
    /// A hash of all data that comes from the log, in hexadecimal. Equal views have equal digests, on every server. The
    /// progress of running attempts is not part of it.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: String| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        add(format!("{} {:?}", self.position, self.time));
        for row in self.rows() {
            add(serde_json::to_string(&row.doc(WaitingFor::Worker, None)).unwrap_or_default());
            add(format!("{} {:?}", row.created_position(), row.ended_position()));
        }
        let mut owners: Vec<&Owner> = self.owners.list.iter().collect();
        owners.sort_unstable_by_key(|owner| &*owner.name);
        for owner in owners {
            add(format!("{} {:?} {:?} {}", owner.name, owner.counts, owner.unseen, owner.seen));
        }
        let mut idempotency_keys: Vec<String> = Vec::new();
        for (caller, keys) in &self.idempotency_keys {
            idempotency_keys
                .extend(keys.iter().map(|(key, (task, hash))| format!("{caller:?} {key:?} {task} {hash:?}")));
        }
        idempotency_keys.sort_unstable();
        idempotency_keys.into_iter().for_each(&mut add);
        add(format!("{:?} {:?}", self.paused_queues, self.schedules));
        if self.credentials != Credentials::default() {
            add(format!("{:?}", self.credentials));
        }
        hasher.finalize().to_hex().to_string()
    }
}
