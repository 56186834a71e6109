//! The kind `content.distribute`: copies a directory tree to many targets.
//!
//! Guarantees:
//!
//! - A file with its final name is always complete. Before that, it has a temporary name.
//! - Only directories under the content roots are read or written, even if a directory is replaced by a symlink during
//!   the copy.
//! - A cancel stops the copy between two files, and the copied files stay. An interrupt stops it within a file.
//! - A later attempt begins with the first file again and skips files that the target already has with the same size,
//!   modification time and permissions.
//! - Files that are in a target but not in the source are not changed.
//!
//! Reading order: `input` (the checks without access to the disk), `roots` (the content roots, and whether a path is
//! inside them), `tree` and `open_directory` (access to entries without following symlinks), `plan` (the entries of the
//! source), `distribution` (the order of the work), `copy` and `temporary` (the copy of one entry), `verify` (the comparison of
//! a copy with its source). These use `rate_limiter`, `counts`, `attributes`, `copy_error` and `format`.

mod attributes;
mod copy;
mod copy_error;
mod counts;
mod distribution;
mod format;
mod input;
mod open_directory;
mod plan;
mod rate_limiter;
mod roots;
mod temporary;
mod tree;
mod verify;

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::Value;

pub use roots::ContentRoots;

use crate::task::Invalid;
use crate::task::limits::TITLE_MAX;
use crate::work::worker::context::{Context, Step};
use crate::work::worker::handler::{Defaults, Done, Failure, Handler};
use crate::work::worker::text::single_line;
use distribution::RunningDistribution;
use input::DistributeInput;
use rate_limiter::RateLimiter;

/// The handler of `content.distribute`; its input is `{"source": DIR, "targets": [DIR…], "verify"?: bool}`.
#[derive(Debug)]
pub struct Distribute {
    roots: Arc<ContentRoots>,
    limiter: Arc<RateLimiter>,
}

impl Distribute {
    /// Makes a handler that copies between directories under `roots`. All its distributions together copy at most
    /// `bytes_per_s` bytes per second; `None` means that there is no limit.
    #[must_use]
    pub fn new(roots: ContentRoots, bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { roots: Arc::new(roots), limiter: Arc::new(RateLimiter::new(bytes_per_s)) }
    }
}

#[async_trait::async_trait]
impl Handler for Distribute {
    fn kind(&self) -> &'static str {
        "content.distribute"
    }

    fn check(&self, input: &Value) -> Result<(), Vec<Invalid>> {
        DistributeInput::parse(input, &self.roots).map(|_| ())
    }

    fn title(&self, input: &Value) -> Option<String> {
        let input = DistributeInput::parse(input, &self.roots).ok()?;
        let name = input.source.file_name().unwrap_or(input.source.as_os_str()).to_string_lossy();
        let targets = format::quantity(u64::try_from(input.targets.len()).unwrap_or(u64::MAX), "target");
        // A long name is cut here, so that the title has room for the number of targets.
        let name = single_line(&name, TITLE_MAX - 64)?;
        Some(format!("Distribute {name} to {targets}"))
    }

    fn defaults(&self) -> Defaults {
        Defaults { max_attempts: 3, ..Defaults::default() }
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let input =
            DistributeInput::parse(ctx.input_value(), &self.roots).map_err(|invalid| invalid_input(&invalid))?;
        let (roots, limiter) = (Arc::clone(&self.roots), Arc::clone(&self.limiter));
        let name = format!("counting the files of {}", input.source.display());
        let distribution_ctx = ctx.clone();
        let begun = ctx
            .blocking(name, move |step| RunningDistribution::begin(distribution_ctx, input, &roots, limiter, step))
            .await??;
        let Some(mut distribution) = begun else {
            let message = Some("stopped before anything was copied".to_owned());
            return Err(Failure::Cancelled { message, result: None });
        };
        while !distribution.is_complete() {
            if ctx.observe_cancel() {
                return Err(distribution.stopped_early_failure());
            }
            let name = distribution.step_name();
            let slice = move |step: &Step| {
                let result = distribution.run_slice(step);
                (distribution, result)
            };
            let (same_distribution, result) = ctx.blocking(name, slice).await?;
            distribution = same_distribution;
            match result {
                Err(error) if error.is_interrupted() => return Err(distribution.stopped_early_failure()),
                result => result?,
            }
        }
        Ok(distribution.to_done())
    }
}

/// The failure for an invalid input. It occurs if the content roots have changed since the task was created.
fn invalid_input(invalid: &[Invalid]) -> Failure {
    let all: Vec<_> = invalid.iter().map(|error| format!("{}: {}", error.pointer, error.detail)).collect();
    Failure::fatal("invalid_input", all.join("; "))
}
