//! How far a distribution has come, in numbers and in words.

use std::time::Duration;

use serde_json::{Value, json};

use super::plan::Plan;
use super::words::{quantity, size, with_commas};

/// What is done. Files, symlinks among them, and bytes are counted once per target.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub targets: u64,
    pub verify: bool,
    /// Files and bytes of one target.
    files_each: u64,
    bytes_each: u64,
    /// Files and bytes in place now, copied by this attempt or there before.
    pub files: u64,
    pub bytes: u64,
    /// Files that were there before.
    pub skipped: u64,
    pub targets_done: u64,
    pub verified: u64,
    pub bytes_verified: u64,
    /// Files that were copied again because they differed from their source.
    pub repaired: u64,
    /// Bytes that this attempt copied, and how long that took.
    pub copied_bytes: u64,
    pub copying_time: Duration,
}

impl Tally {
    pub fn new(plan: &Plan, targets: usize, verify: bool) -> Self {
        let targets = u64::try_from(targets).unwrap_or(u64::MAX);
        Self { targets, verify, files_each: plan.files, bytes_each: plan.bytes, ..Self::default() }
    }

    /// How much of all work is done, from 0 to 1, with `more` bytes of the file under way. Counts bytes, or files if all of
    /// them are empty.
    pub fn fraction(&self, more: u64) -> Option<f64> {
        let passes = self.targets * if self.verify { 2 } else { 1 };
        let (done, total) = match self.bytes_each {
            0 => (self.files + self.verified, self.files_each * passes),
            each => (self.bytes + self.bytes_verified + more, each.saturating_mul(passes)),
        };
        (total > 0).then(|| ratio(done, total))
    }

    /// The file under way: `file 812 of 2,340, target 3 of 5`.
    pub fn copying(&self) -> String {
        let file = (self.files - self.targets_done * self.files_each + 1).min(self.files_each);
        let target = (self.targets_done + 1).min(self.targets);
        let (files, targets) = (with_commas(self.files_each), with_commas(self.targets));
        format!("file {} of {files}, target {} of {targets}", with_commas(file), with_commas(target))
    }

    /// The copy under comparison: `verifying copy 812 of 11,700`.
    pub fn verifying(&self) -> String {
        let all = self.files_each * self.targets;
        format!("verifying copy {} of {}", with_commas((self.verified + 1).min(all)), with_commas(all))
    }

    /// The message of an attempt that stopped after a cancel.
    pub fn stopped(&self) -> String {
        let (files, bytes) = (self.files_each * self.targets, self.bytes_each.saturating_mul(self.targets));
        let copied = format!(
            "{} of {} ({} of {}) were copied",
            with_commas(self.files),
            quantity(files, "file"),
            size(self.bytes),
            size(bytes)
        );
        let verified = if self.verify { format!(", {} verified", with_commas(self.verified)) } else { String::new() };
        format!("stopped: {copied}{verified}; what was copied stays")
    }

    /// The message of an attempt that succeeded.
    pub fn succeeded(&self) -> String {
        let (files, bytes) = (quantity(self.files_each, "file"), size(self.bytes_each));
        let verified = if self.verify { ", verified" } else { "" };
        let skipped = match self.skipped {
            0 => String::new(),
            n => format!("; {} of {} were there already", with_commas(n), with_commas(self.files)),
        };
        format!("{files} ({bytes}) copied to {}{verified}{skipped}", quantity(self.targets, "target"))
    }

    /// The result, for programs.
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

    /// How long `left` more bytes take at the speed so far; none if nothing was copied yet.
    pub fn time_for(&self, left: u64) -> Option<Duration> {
        time_for(left, self.copied_bytes, self.copying_time)
    }
}

/// How long `left` more bytes take if `copied` bytes took `spent`; none if `copied` is 0.
pub(super) fn time_for(left: u64, copied: u64, spent: Duration) -> Option<Duration> {
    let nanos = (spent.as_nanos() * u128::from(left)).checked_div(u128::from(copied))?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// Exact enough for a progress bar: above 2^53, single bytes are lost.
#[allow(clippy::cast_precision_loss)]
fn ratio(done: u64, total: u64) -> f64 {
    done as f64 / total as f64
}
