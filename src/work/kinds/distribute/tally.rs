//! How far a distribution has come, in numbers and in words.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Plan;
use super::words::{count, many, size};

/// What is done. Files are counted once per target, symlinks among them; bytes likewise.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub targets: u64,
    pub verify: bool,
    /// Of one target.
    files_each: u64,
    bytes_each: u64,
    /// In place now, copied or found there.
    pub files: u64,
    pub bytes: u64,
    /// Found there.
    pub skipped: u64,
    pub targets_done: u64,
    pub verified: u64,
    pub bytes_verified: u64,
    /// Copied again because they were not what their source is.
    pub repaired: u64,
    /// Bytes that this attempt copied, and how long that took.
    pub moved: u64,
    pub spent: Duration,
}

impl Tally {
    pub fn new(plan: &Plan, targets: usize, verify: bool) -> Self {
        let targets = u64::try_from(targets).unwrap_or(u64::MAX);
        Self { targets, verify, files_each: plan.files, bytes_each: plan.bytes, ..Self::default() }
    }

    /// How much of all work is done, with `more` bytes of the file under way; by files where there are no bytes.
    pub fn fraction(&self, more: u64) -> Option<f64> {
        let passes = self.targets * if self.verify { 2 } else { 1 };
        let (done, total) = match self.bytes_each {
            0 => (self.files + self.verified, self.files_each * passes),
            each => (self.bytes + self.bytes_verified + more, each.saturating_mul(passes)),
        };
        (total > 0).then(|| ratio(done, total))
    }

    /// `file 812 of 2,340, target 3 of 5`: the one under way.
    pub fn copying(&self) -> String {
        let file = (self.files - self.targets_done * self.files_each + 1).min(self.files_each);
        let target = (self.targets_done + 1).min(self.targets);
        let (files, targets) = (count(self.files_each), count(self.targets));
        format!("file {} of {files}, target {} of {targets}", count(file), count(target))
    }

    /// `verifying copy 812 of 11,700`.
    pub fn verifying(&self) -> String {
        let all = self.files_each * self.targets;
        format!("verifying copy {} of {}", count((self.verified + 1).min(all)), count(all))
    }

    /// For the outcome of one that was stopped.
    pub fn stopped(&self) -> String {
        let (files, bytes) = (self.files_each * self.targets, self.bytes_each.saturating_mul(self.targets));
        let copied = format!(
            "{} of {} ({} of {}) were copied",
            count(self.files),
            many(files, "file"),
            size(self.bytes),
            size(bytes)
        );
        let verified = if self.verify { format!(", {} verified", count(self.verified)) } else { String::new() };
        format!("stopped: {copied}{verified}; what was copied stays")
    }

    /// For the outcome of one that succeeded.
    pub fn succeeded(&self) -> String {
        let (files, bytes) = (many(self.files_each, "file"), size(self.bytes_each));
        let verified = if self.verify { ", verified" } else { "" };
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!("; {} of {} were there already", count(n), count(self.files)),
        };
        format!("{files} ({bytes}) copied to {}{verified}{skipped}", many(self.targets, "target"))
    }

    /// For programs.
    pub fn result(&self) -> Value {
        json!({
            "files": self.files,
            "bytes": self.bytes,
            "files_total": self.files_each * self.targets,
            "bytes_total": self.bytes_each.saturating_mul(self.targets),
            "skipped": self.skipped,
            "verified": self.verified,
            "repaired": self.repaired,
            "targets_done": self.targets_done,
            "targets_total": self.targets,
        })
    }

    /// How long `left` more bytes take at the speed so far; none where there is no speed yet.
    pub fn time_for(&self, left: u64) -> Option<Duration> {
        time_for(left, self.moved, self.spent)
    }
}

/// How long `left` more bytes take where `moved` took `spent`.
pub(super) fn time_for(left: u64, moved: u64, spent: Duration) -> Option<Duration> {
    let nanos = (spent.as_nanos() * u128::from(left)).checked_div(u128::from(moved))?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// Exact enough for a bar: past 2^53 a byte more or less is not seen.
#[allow(clippy::cast_precision_loss)]
fn ratio(done: u64, total: u64) -> f64 {
    done as f64 / total as f64
}
