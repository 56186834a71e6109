//! Which tasks a reader wants to see.

use serde::{Deserialize, Serialize};

use super::row::Row;
use crate::task::{Status, TaskId, Timestamp};

/// A task must match every field, and one of the values within a list; an empty field lets everything through.
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
    /// Asked for by this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
}

impl Filter {
    /// The words of a search text, for [`Filter::q`].
    #[must_use]
    pub fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_lowercase).collect()
    }

    /// Whether it lets every task through.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether only reading the tasks shows how many match: more is asked than owner, kind, queue and status.
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

    /// Whether this task is let through.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        (self.status.is_empty() || self.status.contains(&row.status()))
            && one_of(&self.owner, row.owner())
            && one_of(&self.kind, row.kind())
            && one_of(&self.queue, row.queue())
            && self.parent.is_none_or(|parent| row.parent() == Some(parent))
            && self.created_after.is_none_or(|at| row.created_at() > at)
            && self.created_before.is_none_or(|at| row.created_at() < at)
            && self.finished_after.is_none_or(|at| row.finished_at().is_some_and(|finished| finished > at))
            && self.finished_before.is_none_or(|at| row.finished_at().is_some_and(|finished| finished < at))
            && self.labels.iter().all(|(key, value)| row.labels().get(key) == Some(value))
            && (self.q.is_empty() || has_words(&self.q, row))
    }

    /// The same number for the same wish, in whatever order its values stand, on every server and after a restart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut print = Print::default();
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

/// A hash of named lists, each length before its text, so that no two filters read alike.
#[derive(Default)]
struct Print(blake3::Hasher);

impl Print {
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
