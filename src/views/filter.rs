//! Which tasks a list shows.

use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::task::{Status, TaskId, Timestamp};

/// A task matches if it matches every field. It matches a list if it matches one of the values; an empty field matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// One of these statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// One of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// One of these queues.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<String>,
    /// One of these owners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner: Vec<String>,
    /// All of these labels, key and value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// All of these words, as parts of the title, the outcome's message or its error's message, in any case of letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub q: Vec<String>,
    /// Created later than this (not at it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// Created earlier than this (not at it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Finished later than this (not at it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_after: Option<Timestamp>,
    /// Finished earlier than this (not at it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<Timestamp>,
    /// Created as a child of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
}

impl Filter {
    /// The words of a search text, for [`Filter::q`].
    #[must_use]
    pub fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_lowercase).collect()
    }

    /// Whether every task matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the number of matching tasks is known only after reading them: the counters know owner, kind, queue and
    /// status alone.
    #[must_use]
    pub const fn needs_scan(&self) -> bool {
        !self.labels.is_empty()
            || !self.q.is_empty()
            || self.created_after.is_some()
            || self.created_before.is_some()
            || self.finished_after.is_some()
            || self.finished_before.is_some()
            || self.parent.is_some()
    }

    /// Whether the filter's kinds and queues include these.
    #[must_use]
    pub fn admits(&self, kind: &str, queue: &str) -> bool {
        one_of(&self.kind, kind) && one_of(&self.queue, queue)
    }

    /// Whether this task matches.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        (self.status.is_empty() || self.status.contains(&row.status()))
            && one_of(&self.owner, row.owner())
            && self.admits(row.kind(), row.queue())
            && self.parent.is_none_or(|parent| row.parent() == Some(parent))
            && self.created_after.is_none_or(|at| row.created_at() > at)
            && self.created_before.is_none_or(|at| row.created_at() < at)
            && self.finished_after.is_none_or(|at| row.finished_at().is_some_and(|finished| finished > at))
            && self.finished_before.is_none_or(|at| row.finished_at().is_some_and(|finished| finished < at))
            && self.labels.iter().all(|(key, value)| row.labels().get(key) == Some(value))
            && (self.q.is_empty() || has_words(&self.q, row))
    }

    /// A hash of the filter: the same for the same values in any order, on every server and after a restart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut print = Fingerprint::default();
        print.list("status", self.status.iter().map(|status| status.name().to_owned()));
        print.list("kind", self.kind.iter().cloned());
        print.list("queue", self.queue.iter().cloned());
        print.list("owner", self.owner.iter().cloned());
        print.list("label", self.labels.iter().map(|(key, value)| format!("{key}:{value}")));
        print.list("q", self.q.iter().map(|word| word.to_lowercase()));
        for (name, at) in [
            ("created_after", self.created_after),
            ("created_before", self.created_before),
            ("finished_after", self.finished_after),
            ("finished_before", self.finished_before),
        ] {
            print.list(name, at.iter().map(|at| at.as_micros().to_string()));
        }
        print.list("parent", self.parent.iter().map(TaskId::to_string));
        print.number()
    }
}

fn one_of(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == value)
}

fn has_words(words: &[String], row: &Row) -> bool {
    let outcome = row.outcome();
    let message = outcome.and_then(|outcome| outcome.message.as_deref());
    let error = outcome.and_then(|outcome| outcome.error.as_ref()).map(|error| error.message.as_str());
    let texts = [Some(row.title()), message, error].map(|text| text.unwrap_or_default().to_lowercase());
    words.iter().all(|word| {
        let word = word.to_lowercase();
        texts.iter().any(|text| text.contains(&word))
    })
}

/// Hashes named lists. The length of each text comes before the text, so that different filters are different input.
#[derive(Default)]
struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    fn list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        let mut values: Vec<String> = values.collect();
        values.sort_unstable();
        values.dedup();
        self.text(name);
        self.0.update(&(values.len() as u64).to_le_bytes());
        for value in &values {
            self.text(value);
        }
    }

    fn text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    fn number(&self) -> u64 {
        let mut first = [0; 8];
        self.0.finalize_xof().fill(&mut first);
        u64::from_le_bytes(first)
    }
}
