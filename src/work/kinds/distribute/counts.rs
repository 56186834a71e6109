//! The counts of a distribution, and the messages that contain them.

use std::time::Duration;

use serde_json::{Value, json};

use super::format::{quantity, size, with_commas};
use super::plan::CopyPlan;

/// The counts of the work that is done. Files (which include symlinks) and bytes are counted once for each target.
#[derive(Clone, Debug, Default)]
pub(super) struct CopyCounts {
    pub targets: u64,
    pub verify: bool,
    /// The files and bytes of one target.
    files_per_target: u64,
    bytes_per_target: u64,
    /// The files and bytes that the targets have now, whether this attempt or an earlier one has copied them.
    pub files: u64,
    pub bytes: u64,
    /// The files that already existed.
    pub skipped: u64,
    pub targets_done: u64,
    pub verified: u64,
    pub bytes_verified: u64,
    /// The files that were copied again because they differed from their source.
    pub repaired: u64,
    /// The bytes that this attempt has copied, and the time that this took.
    pub copied_bytes: u64,
    pub copying_time: Duration,
}

impl CopyCounts {
    pub fn new(plan: &CopyPlan, targets: usize, verify: bool) -> Self {
        let targets = u64::try_from(targets).unwrap_or(u64::MAX);
        Self { targets, verify, files_per_target: plan.files, bytes_per_target: plan.bytes, ..Self::default() }
    }

    /// Returns the fraction of the work that is done, from 0 to 1. `current` is the number of bytes that are done of
    /// the current file. Counts bytes, or files if all files are empty.
    pub fn fraction(&self, current: u64) -> Option<f64> {
        let passes = self.targets * if self.verify { 2 } else { 1 };
        let (done, total) = match self.bytes_per_target {
            0 => (self.files + self.verified, self.files_per_target * passes),
            bytes => (self.bytes + self.bytes_verified + current, bytes.saturating_mul(passes)),
        };
        (total > 0).then(|| ratio(done, total))
    }

    /// The message for the current file: `file 812 of 2,340, target 3 of 5`.
    pub fn copying_message(&self) -> String {
        let file = (self.files - self.targets_done * self.files_per_target + 1).min(self.files_per_target);
        let target = (self.targets_done + 1).min(self.targets);
        let (files, targets) = (with_commas(self.files_per_target), with_commas(self.targets));
        format!("file {} of {files}, target {} of {targets}", with_commas(file), with_commas(target))
    }

    /// The message for the copy that is compared: `verifying copy 812 of 11,700`.
    pub fn verifying_message(&self) -> String {
        let all = self.files_per_target * self.targets;
        format!("verifying copy {} of {}", with_commas((self.verified + 1).min(all)), with_commas(all))
    }

    /// The message of an attempt that stopped after a cancel.
    pub fn stopped_message(&self) -> String {
        let (files, bytes) = (self.files_per_target * self.targets, self.bytes_per_target.saturating_mul(self.targets));
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
    pub fn succeeded_message(&self) -> String {
        let (files, bytes) = (quantity(self.files_per_target, "file"), size(self.bytes_per_target));
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
            "files_total": self.files_per_target * self.targets,
            "bytes_total": self.bytes_per_target.saturating_mul(self.targets),
            "skipped": self.skipped,
            "verified": self.verified,
            "repaired": self.repaired,
            "targets_done": self.targets_done,
            "targets_total": self.targets,
        })
    }

    /// Returns how long `left` more bytes take at the average speed so far; `None` if nothing was copied yet.
    pub fn time_for(&self, left: u64) -> Option<Duration> {
        time_for(left, self.copied_bytes, self.copying_time)
    }
}

/// Returns how long `left` more bytes take if `copied` bytes took `spent`; `None` if `copied` is 0.
pub(super) fn time_for(left: u64, copied: u64, spent: Duration) -> Option<Duration> {
    let nanos = (spent.as_nanos() * u128::from(left)).checked_div(u128::from(copied))?;
    Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// The quotient of two counts. Above 2^53 it is not exact to the byte, which a progress bar doesn't need.
#[allow(clippy::cast_precision_loss)]
fn ratio(done: u64, total: u64) -> f64 {
    done as f64 / total as f64
}
