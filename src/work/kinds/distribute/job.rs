//! A distribution under way: what is done, and what comes next.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attributes::Attributes;
use super::fault::{Fault, interrupted};
use super::input::DistributeInput;
use super::limit::RateLimiter;
use super::plan::{Content, Entry, Plan};
use super::put::{self, Copying, Sync};
use super::roots::ContentRoots;
use super::tally::{Tally, time_for};
use super::temporary::TemporaryName;
use super::tree::Tree;
use super::verify;
use super::words::quantity;
use crate::work::worker::context::{Context, Step};
use crate::work::worker::handler::{Done, Failure};

/// How long one blocking step goes on with small files before it ends and the next one begins.
const TURN: Duration = Duration::from_millis(50);
/// After this time, a file's expected end comes from its own speed; before, from that of the files before it.
const OWN_SPEED_AFTER: Duration = Duration::from_millis(100);

/// A distribution under way. It consists of turns; each turn is one blocking step.
pub(super) struct Job {
    ctx: Context,
    limiter: Arc<RateLimiter>,
    source: Tree,
    targets: Vec<Target>,
    plan: Arc<Plan>,
    temporary: TemporaryName,
    next: Next,
    tally: Tally,
}

struct Target {
    tree: Tree,
    /// As the input names it, for messages.
    named: PathBuf,
}

/// What comes next; numbers are indices of `targets` and `plan.entries`.
#[derive(Clone, Copy)]
enum Next {
    Copy { target: usize, entry: usize },
    Finish { target: usize },
    Verify { target: usize, entry: usize },
    Nothing,
}

impl Job {
    /// Resolves the paths and counts what is to be copied; none if the task was cancelled meanwhile.
    pub fn begin(
        ctx: Context,
        input: DistributeInput,
        roots: &ContentRoots,
        limiter: Arc<RateLimiter>,
        step: &Step,
    ) -> Result<Option<Self>, Fault> {
        let (mut source, trees) = roots.resolve(&input.source, &input.targets)?;
        let plan = Plan::survey(&mut source, |plan| {
            if plan.entries.len() % 1000 == 999 {
                ctx.progress(None, format!("counting: {} so far", quantity(plan.files, "file")));
            }
            !ctx.is_cancelled() && !step.is_interrupted()
        })?;
        let Some(plan) = plan else { return Ok(None) };
        let tally = Tally::new(&plan, input.targets.len(), input.verify);
        let targets = trees.into_iter().zip(input.targets).map(|(tree, named)| Target { tree, named }).collect();
        let temporary = TemporaryName::new(ctx.task_id());
        let (plan, next) = (Arc::new(plan), Next::Copy { target: 0, entry: 0 });
        Ok(Some(Self { ctx, limiter, source, targets, plan, temporary, next, tally }))
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// What comes next, as the name of a step.
    pub fn step_name(&self) -> String {
        let path = |entry: usize| self.plan.entries.get(entry).map_or(".".into(), |entry| entry.path.to_string_lossy());
        let named = |target: usize| self.targets[target].named.display();
        match self.next {
            Next::Copy { target, entry } => format!("copying {} to {}", path(entry), named(target)),
            Next::Finish { target } => format!("writing {} to the disk", named(target)),
            Next::Verify { target, entry } => format!("verifying {} in {}", path(entry), named(target)),
            Next::Nothing => "done".to_owned(),
        }
    }

    /// Runs one turn: small files for a while, or one large file to its end. A cancel ends it after the entry under way, an
    /// interrupt ends it in the middle of a file.
    pub fn turn(&mut self, step: &Step) -> Result<(), Fault> {
        let begun = Instant::now();
        while !self.is_done() && begun.elapsed() < TURN && !self.ctx.is_cancelled() {
            if step.is_interrupted() {
                return Err(interrupted());
            }
            step.rename(self.step_name());
            match self.next {
                Next::Copy { target, entry } => self.copy(target, entry, step)?,
                Next::Finish { target } => self.finish(target)?,
                Next::Verify { target, entry } => self.verify(target, entry, step)?,
                Next::Nothing => {}
            }
        }
        self.close();
        Ok(())
    }

    /// The failure of an attempt that stopped after a cancel.
    pub fn stopped(&self) -> Failure {
        Failure::Cancelled { message: Some(self.tally.stopped()), result: Some(self.tally.result().into()) }
    }

    pub fn done(&self) -> Done {
        Done::new(self.tally.succeeded()).with_result(self.tally.result())
    }

    /// A directory that was moved since it was opened is not used for longer than a turn.
    fn close(&mut self) {
        self.source.close();
        for target in &mut self.targets {
            target.tree.close();
        }
    }

    fn copy(&mut self, target: usize, at: usize, step: &Step) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(at) else {
            self.next = Next::Finish { target };
            return Ok(());
        };
        let tree = &mut self.targets[target].tree;
        match &entry.content {
            Content::Dir(attributes) => put::make_dir(tree, &entry.path, attributes, &self.temporary)?,
            Content::Link(leads_to) => {
                let ends = (&self.source.locate(&entry.path)?, &tree.locate(&entry.path)?);
                let there = put::copy_symlink(ends, leads_to, &self.temporary)?;
                self.count(entry, there);
            }
            Content::File(attributes) => {
                let there = put::is_up_to_date(&tree.locate(&entry.path)?, attributes);
                if !there {
                    self.copy_file(target, entry, attributes, Sync::for_len(attributes.len), step)?;
                }
                self.count(entry, there);
            }
        }
        self.next = Next::Copy { target, entry: at + 1 };
        Ok(())
    }

    fn count(&mut self, entry: &Entry, there: bool) {
        self.tally.files += 1;
        self.tally.bytes += entry.len();
        self.tally.skipped += u64::from(there);
        self.ctx.progress(self.tally.fraction(0), self.tally.copying());
    }

    /// While the file is copied, the step's expected end follows the file's own speed, as soon as it has one.
    fn copy_file(
        &mut self,
        target: usize,
        entry: &Entry,
        attributes: &Attributes,
        sync: Sync,
        step: &Step,
    ) -> Result<(), Fault> {
        let (ctx, tally, begun) = (&self.ctx, &self.tally, Instant::now());
        let ends = (&self.source.locate(&entry.path)?, &self.targets[target].tree.locate(&entry.path)?);
        let words = tally.copying();
        let mut done = 0;
        if let Some(expected) = tally.time_for(attributes.len) {
            step.expect_end_in(expected);
        }
        let (temporary, limiter, interrupt) = (&self.temporary, &self.limiter, step.interruption());
        let copying = Copying { attributes, temporary, sync, limiter, interrupt };
        put::copy_file(ends, &copying, |bytes| {
            done += bytes;
            let (left, spent) = (attributes.len.saturating_sub(done), begun.elapsed());
            let own = if spent < OWN_SPEED_AFTER { None } else { time_for(left, done, spent) };
            if let Some(expected) = own.or_else(|| tally.time_for(left)) {
                step.expect_end_in(expected);
            }
            ctx.progress(tally.fraction(done), words.as_str());
        })?;
        self.tally.copied_bytes += done;
        self.tally.copying_time += begun.elapsed();
        Ok(())
    }

    /// A target counts as done when all of it is on the disk.
    fn finish(&mut self, target: usize) -> Result<(), Fault> {
        let tree = &mut self.targets[target].tree;
        let path = tree.path_of(Path::new(""));
        let opened = tree.folder(Path::new(""))?.open_for_reading();
        for entry in self.plan.entries.iter().rev() {
            if let Content::Dir(attributes) = &entry.content {
                let path = tree.path_of(&entry.path);
                put::finish_dir(tree.folder(&entry.path)?, &path, attributes)?;
            }
        }
        let opened = opened.map_err(|error| Fault::io("writing to the disk", &path, &error.into()))?;
        put::sync_filesystem(&opened, &path)?;
        self.tally.targets_done += 1;
        let another = target + 1 < self.targets.len();
        self.next = match (another, self.tally.verify) {
            (true, _) => Next::Copy { target: target + 1, entry: 0 },
            (false, true) => Next::Verify { target: 0, entry: 0 },
            (false, false) => Next::Nothing,
        };
        Ok(())
    }

    /// Compares a copy with its source. One that differs is copied again, once: it may have been there before.
    fn verify(&mut self, target: usize, at: usize, step: &Step) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(at) else {
            let another = target + 1 < self.targets.len();
            self.next = if another { Next::Verify { target: target + 1, entry: 0 } } else { Next::Nothing };
            return Ok(());
        };
        if let Content::File(attributes) = &entry.content {
            let Some(mut same) = self.is_same(target, entry, attributes, step)? else { return Ok(()) };
            if !same {
                self.repair(target, entry, attributes, step)?;
                let Some(now) = self.is_same(target, entry, attributes, step)? else { return Ok(()) };
                same = now;
            }
            if !same {
                let copy = self.targets[target].tree.path_of(&entry.path);
                let message = format!("{} is not what was copied, twice", copy.display());
                return Err(Fault::retryable("verify_failed", message));
            }
        }
        if !matches!(entry.content, Content::Dir(_)) {
            self.tally.verified += 1;
            self.tally.bytes_verified += entry.len();
            self.ctx.progress(self.tally.fraction(0), self.tally.verifying());
        }
        self.next = Next::Verify { target, entry: at + 1 };
        Ok(())
    }

    /// Copies a file into a finished directory again. The directory keeps its permissions and times.
    fn repair(&mut self, target: usize, entry: &Entry, attributes: &Attributes, step: &Step) -> Result<(), Fault> {
        let dir = entry.path.parent().unwrap_or(&entry.path);
        let path = self.targets[target].tree.path_of(dir);
        let before = put::reopen_dir(self.targets[target].tree.folder(dir)?, &path)?;
        let copied = self.copy_file(target, entry, attributes, Sync::First, step);
        put::finish_dir(self.targets[target].tree.folder(dir)?, &path, &before)?;
        copied?;
        self.tally.repaired += 1;
        Ok(())
    }

    /// Whether the copy is what its source is; none if the task was cancelled or interrupted meanwhile.
    fn is_same(
        &mut self,
        target: usize,
        entry: &Entry,
        attributes: &Attributes,
        step: &Step,
    ) -> Result<Option<bool>, Fault> {
        let (ctx, tally, words, mut done) = (&self.ctx, &self.tally, self.tally.verifying(), 0);
        let go_on = |_| !ctx.is_cancelled() && !step.is_interrupted();
        let (from, to) = (self.source.locate(&entry.path)?, self.targets[target].tree.locate(&entry.path)?);
        let Some(source) = verify::hash_source(&from, attributes, go_on)? else { return Ok(None) };
        verify::has_hash(&to, source, |bytes| {
            done += bytes;
            ctx.progress(tally.fraction(done), words.as_str());
            go_on(bytes)
        })
    }
}
