//! The kind `content.distribute`: copies a directory tree to many targets.
//!
//! What holds, whatever happens: no half file is ever seen under its name; only directories under the content roots are
//! read or written; a cancel stops between files, and what was copied stays; a second attempt goes on where the first one
//! ended. Files that are in a target and not in the source stay as they are.
//!
//! Reading order: `input` (what the input alone shows), `roots` (whether a path stays inside), `plan` (what the
//! source holds), `job` (what comes next), `put` (one entry into its place), `verify`, and on the side `limit`,
//! `tally`, `fault`, `words`.

mod fault;
mod input;
mod job;
mod limit;
mod plan;
mod put;
mod roots;
mod tally;
mod verify;
mod words;

use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::Value;

pub use roots::Roots;

use crate::task::Invalid;
use crate::task::limits::TITLE_MAX;
use crate::work::worker::context::Context;
use crate::work::worker::handler::{Defaults, Done, Failure, Handler};
use crate::work::worker::text::line;
use input::Order;
use job::Job;
use limit::Limiter;

/// The handler of `content.distribute`; its input is `{"source": DIR, "targets": [DIR…], "verify"?: bool}`.
#[derive(Debug)]
pub struct Distribute {
    roots: Arc<Roots>,
    limiter: Arc<Limiter>,
}

impl Distribute {
    /// Distributes between directories under `roots`; all distributions together copy at most `bytes_per_s`.
    #[must_use]
    pub fn new(roots: Roots, bytes_per_s: Option<NonZeroU64>) -> Self {
        Self { roots: Arc::new(roots), limiter: Arc::new(Limiter::new(bytes_per_s)) }
    }
}

#[async_trait::async_trait]
impl Handler for Distribute {
    fn kind(&self) -> &'static str {
        "content.distribute"
    }

    fn check(&self, input: &Value) -> Result<(), Vec<Invalid>> {
        Order::parse(input, &self.roots).map(|_| ())
    }

    fn title(&self, input: &Value) -> Option<String> {
        let order = Order::parse(input, &self.roots).ok()?;
        let name = order.source.file_name().unwrap_or(order.source.as_os_str()).to_string_lossy();
        let targets = words::many(u64::try_from(order.targets.len()).unwrap_or(u64::MAX), "target");
        // A long name gives way to the number behind it.
        let name = line(&name, TITLE_MAX - 64)?;
        Some(format!("Distribute {name} to {targets}"))
    }

    fn defaults(&self) -> Defaults {
        Defaults { max_attempts: 3, ..Defaults::default() }
    }

    async fn run(&self, ctx: Context) -> Result<Done, Failure> {
        let order = Order::parse(ctx.input_value(), &self.roots).map_err(|wrong| refused(&wrong))?;
        let (roots, limiter) = (Arc::clone(&self.roots), Arc::clone(&self.limiter));
        let name = format!("counting the files of {}", order.source.display());
        let own = ctx.clone();
        let begun = ctx.blocking(name, move |step| Job::begin(own, order, &roots, limiter, step)).await??;
        let Some(mut job) = begun else {
            let message = Some("stopped before anything was copied".to_owned());
            return Err(Failure::Cancelled { message, result: None });
        };
        while !job.is_done() {
            if ctx.is_cancelled() {
                return Err(job.stopped());
            }
            let doing = job.doing();
            let turn = move |step: &crate::work::Step| {
                let turned = job.turn(step);
                (job, turned)
            };
            let (back, turned) = ctx.blocking(doing, turn).await?;
            job = back;
            match turned {
                Err(fault) if fault.is_interrupted() => return Err(job.stopped()),
                turned => turned?,
            }
        }
        Ok(job.done())
    }
}

/// The roots may be others than when the task was accepted.
fn refused(wrong: &[Invalid]) -> Failure {
    let all: Vec<_> = wrong.iter().map(|wrong| format!("{}: {}", wrong.pointer, wrong.detail)).collect();
    Failure::fatal("invalid_input", all.join("; "))
}
