//! The filter of a list: which tasks the list shows.

use serde::{Deserialize, Serialize};

use super::row::Row;
use super::scope::Scope;
use crate::task::{Status, TaskId, Timestamp};

/// A condition for tasks. A task matches the filter if it matches every field. An empty field matches every task. `status`,
/// `kind`, `queue` and `owner` match if one of their values is the task's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// The task has one of these statuses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<Status>,
    /// The task has one of these kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<String>,
    /// The task is in one of these queues.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<String>,
    /// The task has one of these owners.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner: Vec<String>,
    /// The task has all of these labels. Each item is the key and the value of a label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
    /// The search words, see [`Filter::words`]. Each of them is contained in the task's title, the message of its outcome or
    /// the message of its error. Upper and lower case make no difference.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub q: Vec<String>,
    /// The task was created after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// The task was created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// The task's run ended after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_after: Option<Timestamp>,
    /// The task's run ended before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_before: Option<Timestamp>,
    /// The task is a child of this task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
}

impl Filter {
    /// The filter that every task of this scope matches.
    #[must_use]
    pub fn of(scope: Scope) -> Self {
        let owner = match scope {
            Scope::Everyone => Vec::new(),
            // No task has an owner without a name.
            Scope::Owners(owners) if owners.is_empty() => vec![String::new()],
            Scope::Owners(owners) => owners,
        };
        Self { owner, ..Self::default() }
    }

    /// The filter that every task matches that is not final.
    #[must_use]
    pub fn of_open_tasks() -> Self {
        let status = Status::ALL.into_iter().filter(|status| !status.is_final()).collect();
        Self { status, ..Self::default() }
    }

    /// Whose tasks can match.
    #[must_use]
    pub fn scope(&self) -> Scope {
        if self.owner.is_empty() { Scope::Everyone } else { Scope::Owners(self.owner.clone()) }
    }

    /// The words of a search text, in lower case, for [`Filter::q`].
    #[must_use]
    pub fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_lowercase).collect()
    }

    /// Whether every task matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether only the tasks themselves say if they match: no index has the labels, the words and the parent.
    #[must_use]
    pub const fn needs_scan(&self) -> bool {
        !self.labels.is_empty() || !self.q.is_empty() || self.parent.is_some()
    }

    /// Whether a task of this kind in this queue matches the filter's fields `kind` and `queue`.
    #[must_use]
    pub fn matches_kind_and_queue(&self, kind: &str, queue: &str) -> bool {
        is_empty_or_contains(&self.kind, kind) && is_empty_or_contains(&self.queue, queue)
    }

    /// Whether tasks with this status match the filter's field `status`.
    #[must_use]
    pub fn matches_status(&self, status: Status) -> bool {
        self.status.is_empty() || self.status.contains(&status)
    }

    /// Whether this task matches the filter.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        self.matches_status(row.status())
            && self.matches_owner(row.owner())
            && self.matches_kind_and_queue(row.kind(), row.queue())
            && self.parent.is_none_or(|parent| row.parent() == Some(parent))
            && self.matches_times(row.created_at(), || row.finished_at())
            && self.labels.iter().all(|(key, value)| row.labels().get(key) == Some(value))
            && self.matches_words(row)
    }

    /// Whether a task of this owner matches the filter's field `owner`.
    pub(super) fn matches_owner(&self, owner: &str) -> bool {
        is_empty_or_contains(&self.owner, owner)
    }

    /// Whether a task that was created and has ended at these times matches the filter's windows.
    pub(super) fn matches_times(&self, created: Timestamp, finished: impl FnOnce() -> Option<Timestamp>) -> bool {
        self.created_after.is_none_or(|at| created > at)
            && self.created_before.is_none_or(|at| created < at)
            && (!self.has_finished_window()
                || finished().is_some_and(|finished| {
                    self.finished_after.is_none_or(|at| finished > at)
                        && self.finished_before.is_none_or(|at| finished < at)
                }))
    }

    pub(super) const fn has_created_window(&self) -> bool {
        self.created_after.is_some() || self.created_before.is_some()
    }

    pub(super) const fn has_finished_window(&self) -> bool {
        self.finished_after.is_some() || self.finished_before.is_some()
    }

    /// Whether the task matches the filter's field `q`.
    pub(super) fn matches_words(&self, row: &Row) -> bool {
        self.q.is_empty() || contains_words(row, &self.q)
    }

    /// A hash of the filter. It doesn't depend on the order of the values, and is the same on every server and after a restart.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = FilterHasher::default();
        hasher.add_list("status", self.status.iter().map(|status| status.name().to_owned()));
        hasher.add_list("kind", self.kind.iter().cloned());
        hasher.add_list("queue", self.queue.iter().cloned());
        hasher.add_list("owner", self.owner.iter().cloned());
        hasher.add_list("label", self.labels.iter().map(|(key, value)| format!("{key}:{value}")));
        hasher.add_list("q", self.q.iter().map(|word| word.to_lowercase()));
        for (name, at) in [
            ("created_after", self.created_after),
            ("created_before", self.created_before),
            ("finished_after", self.finished_after),
            ("finished_before", self.finished_before),
        ] {
            hasher.add_list(name, at.iter().map(|at| at.as_micros().to_string()));
        }
        hasher.add_list("parent", self.parent.iter().map(TaskId::to_string));
        hasher.finish()
    }
}

fn is_empty_or_contains(list: &[String], value: &str) -> bool {
    list.is_empty() || list.iter().any(|item| item == value)
}

/// Whether the title and the messages of the task contain all of these words.
fn contains_words(row: &Row, words: &[String]) -> bool {
    let outcome = row.outcome();
    let message = outcome.and_then(|outcome| outcome.message.as_deref());
    let error = outcome.and_then(|outcome| outcome.error.as_ref()).map(|error| error.message.as_str());
    let texts = [Some(row.title()), message, error].map(|text| text.unwrap_or_default().to_lowercase());
    words.iter().all(|word| {
        let word = word.to_lowercase();
        texts.iter().any(|text| text.contains(&word))
    })
}

/// Hashes named lists. It hashes the length of each text before the text, so that two different filters never give the hasher
/// the same bytes.
#[derive(Default)]
struct FilterHasher(blake3::Hasher);

impl FilterHasher {
    fn add_list(&mut self, name: &str, values: impl Iterator<Item = String>) {
        let mut values: Vec<String> = values.collect();
        values.sort_unstable();
        values.dedup();
        self.add_text(name);
        self.0.update(&(values.len() as u64).to_le_bytes());
        for value in &values {
            self.add_text(value);
        }
    }

    fn add_text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// The first 64 bits of the hash.
    fn finish(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.finalize_xof().fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}
