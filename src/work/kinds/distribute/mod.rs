//! The kind `content.distribute`: copies a directory tree to many targets.
//!
//! Guarantees:
//!
//! - No half file is ever seen under its real name.
//! - Only directories under the content roots are read or written, even if a directory becomes a symlink meanwhile.
//! - A cancel stops between files, and what was copied stays. An interrupt gives up the file under way.
//! - A later attempt goes on where the former one ended.
//! - Files that are in a target and not in the source stay as they are.
//!
//! Reading order: `input` (the checks without the disk), `roots` (whether a path stays inside), `tree` and `folder` (access
//! to entries without following symlinks), `plan` (what the source holds), `job` (what comes next), `put` and `temporary`
//! (one entry into its place), `verify`; besides these `limit`, `tally`, `attributes`, `fault`, `words`.

mod attributes;
mod fault;
mod folder;
mod input;
mod job;
mod limit;
mod plan;
mod put;
mod roots;
mod tally;
mod temporary;
mod tree;
mod verify;
mod words;

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::Value;

pub use roots::ContentRoots;

use crate::task::Invalid;
use crate::task::limits::TITLE_MAX;
use crate::work::worker::context::{Context, Step};
use crate::work::worker::handler::{Defaults, Done, Failure, Handler};
use crate::work::worker::text::line;
use input::DistributeInput;
use job::Job;
use limit::RateLimiter;

/// The handler of `content.distribute`; its input is `{"source": DIR, "targets": [DIR…], "verify"?: bool}`.
#[derive(Debug)]
pub struct Distribute {
    roots: Arc<ContentRoots>,
    limiter: Arc<RateLimiter>,
}

impl Distribute {
    /// Distributes between directories under `roots`. All distributions of this handler together copy at most `bytes_per_s`
    /// bytes per second; none is no limit.
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
        let targets = words::quantity(u64::try_from(input.targets.len()).unwrap_or(u64::MAX), "target");
        // A long name is cut; the number of targets after it is not.
        let name = line(&name, TITLE_MAX - 64)?;
        Some(format!("Distribute {name} to {targets}"))
    }

    fn defaults(&self) -> Defaults {
        Defaults { max_attempts: 3, ..Defaults::default() }
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let input = DistributeInput::parse(ctx.input_value(), &self.roots).map_err(|wrong| refused(&wrong))?;
        let (roots, limiter) = (Arc::clone(&self.roots), Arc::clone(&self.limiter));
        let name = format!("counting the files of {}", input.source.display());
        let own = ctx.clone();
        let begun = ctx.blocking(name, move |step| Job::begin(own, input, &roots, limiter, step)).await??;
        let Some(mut job) = begun else {
            let message = Some("stopped before anything was copied".to_owned());
            return Err(Failure::Cancelled { message, result: None });
        };
        while !job.is_done() {
            if ctx.is_cancelled() {
                return Err(job.stopped());
            }
            let name = job.step_name();
            let turn = move |step: &Step| {
                let turned = job.turn(step);
                (job, turned)
            };
            let (back, turned) = ctx.blocking(name, turn).await?;
            job = back;
            match turned {
                Err(fault) if fault.is_interrupted() => return Err(job.stopped()),
                turned => turned?,
            }
        }
        Ok(job.done())
    }
}

/// The content roots may have changed since the task was accepted.
fn refused(wrong: &[Invalid]) -> Failure {
    let all: Vec<_> = wrong.iter().map(|wrong| format!("{}: {}", wrong.pointer, wrong.detail)).collect();
    Failure::fatal("invalid_input", all.join("; "))
}
