//! A running distribution: the work that is done, and the next action.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attributes::Attributes;
use super::copy::{self, CopyContext, SyncTime};
use super::copy_error::{CopyError, interrupted};
use super::counts::{CopyCounts, time_for};
use super::format::quantity;
use super::input::DistributeInput;
use super::plan::{Content, CopyPlan, Entry};
use super::rate_limiter::RateLimiter;
use super::roots::ContentRoots;
use super::temporary::TemporaryName;
use super::tree::Tree;
use super::verify;
use crate::work::worker::context::{Context, Step};
use crate::work::worker::handler::{Done, Failure};

/// How long one slice, which is one blocking step, copies small files. Then the step ends and the next one begins.
const SLICE_TIME: Duration = Duration::from_millis(50);
/// After this time, the expected end of a file is computed from its own speed. Before, it is computed from the speed of
/// the earlier files.
const OWN_SPEED_AFTER: Duration = Duration::from_millis(100);

/// A running distribution. It is executed in slices; each slice is one blocking step.
pub(super) struct RunningDistribution {
    ctx: Context,
    limiter: Arc<RateLimiter>,
    source: Tree,
    targets: Vec<Target>,
    plan: Arc<CopyPlan>,
    temporary: TemporaryName,
    next: NextAction,
    counts: CopyCounts,
}

struct Target {
    tree: Tree,
    /// The path in the input, for messages.
    input_path: PathBuf,
}

/// The next action. The numbers are indices of `targets` and `plan.entries`.
#[derive(Clone, Copy)]
enum NextAction {
    Copy { target: usize, entry: usize },
    Finish { target: usize },
    Verify { target: usize, entry: usize },
    Complete,
}

impl RunningDistribution {
    /// Resolves the paths and makes the plan. Returns `None` if the task is cancelled or interrupted during this.
    pub fn begin(
        ctx: Context,
        input: DistributeInput,
        roots: &ContentRoots,
        limiter: Arc<RateLimiter>,
        step: &Step,
    ) -> Result<Option<Self>, CopyError> {
        let (mut source, trees) = roots.resolve(&input.source, &input.targets)?;
        let plan = CopyPlan::scan(&mut source, |plan| {
            if plan.entries.len() % 1000 == 999 {
                ctx.progress(None, format!("counting: {} so far", quantity(plan.files, "file")));
            }
            !ctx.observe_cancel() && !step.is_interrupted()
        })?;
        let Some(plan) = plan else { return Ok(None) };
        let counts = CopyCounts::new(&plan, input.targets.len(), input.verify);
        let targets =
            trees.into_iter().zip(input.targets).map(|(tree, input_path)| Target { tree, input_path }).collect();
        let temporary = TemporaryName::new(ctx.task_id());
        let (plan, next) = (Arc::new(plan), NextAction::Copy { target: 0, entry: 0 });
        Ok(Some(Self { ctx, limiter, source, targets, plan, temporary, next, counts }))
    }

    pub const fn is_complete(&self) -> bool {
        matches!(self.next, NextAction::Complete)
    }

    /// Returns the name of the step for the next action.
    pub fn step_name(&self) -> String {
        let path = |entry: usize| self.plan.entries.get(entry).map_or(".".into(), |entry| entry.path.to_string_lossy());
        let target_path = |target: usize| self.targets[target].input_path.display();
        match self.next {
            NextAction::Copy { target, entry } => format!("copying {} to {}", path(entry), target_path(target)),
            NextAction::Finish { target } => format!("writing {} to the disk", target_path(target)),
            NextAction::Verify { target, entry } => format!("verifying {} in {}", path(entry), target_path(target)),
            NextAction::Complete => "done".to_owned(),
        }
    }

    /// Runs one slice: it copies small files for [`SLICE_TIME`], or one large file. A cancel ends the slice after the
    /// current entry, an interrupt ends it within a file.
    pub fn run_slice(&mut self, step: &Step) -> Result<(), CopyError> {
        let started_at = Instant::now();
        while !self.is_complete() && started_at.elapsed() < SLICE_TIME && !self.ctx.observe_cancel() {
            if step.is_interrupted() {
                return Err(interrupted());
            }
            step.rename(self.step_name());
            match self.next {
                NextAction::Copy { target, entry } => self.copy(target, entry, step)?,
                NextAction::Finish { target } => self.finish(target)?,
                NextAction::Verify { target, entry } => self.verify(target, entry, step)?,
                NextAction::Complete => {}
            }
        }
        self.close_directories();
        Ok(())
    }

    /// Makes the failure of an attempt that stopped after a cancel or an interrupt.
    pub fn stopped_early_failure(&self) -> Failure {
        Failure::Cancelled { message: Some(self.counts.stopped_message()), result: Some(self.counts.result().into()) }
    }

    /// Makes the result of an attempt that has copied everything.
    pub fn to_done(&self) -> Done {
        Done::new(self.counts.succeeded_message()).with_result(self.counts.result())
    }

    /// Closes all directories. So if a directory is moved after it was opened, it is not used after the end of the slice.
    fn close_directories(&mut self) {
        self.source.close();
        for target in &mut self.targets {
            target.tree.close();
        }
    }

    /// Copies one entry to one target.
    fn copy(&mut self, target: usize, index: usize, step: &Step) -> Result<(), CopyError> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(index) else {
            self.next = NextAction::Finish { target };
            return Ok(());
        };
        let tree = &mut self.targets[target].tree;
        match &entry.content {
            Content::Dir(attributes) => copy::prepare_directory(tree, &entry.path, attributes, &self.temporary)?,
            Content::Link(link_target) => {
                let locations = (&self.source.locate(&entry.path)?, &tree.locate(&entry.path)?);
                let existed = copy::copy_symlink(locations, link_target, &self.temporary)?;
                self.count(entry, existed);
            }
            Content::File(attributes) => {
                let existed = copy::is_up_to_date(&tree.locate(&entry.path)?, attributes);
                if !existed {
                    self.copy_file(target, entry, attributes, SyncTime::for_len(attributes.len), step)?;
                }
                self.count(entry, existed);
            }
        }
        self.next = NextAction::Copy { target, entry: index + 1 };
        Ok(())
    }

    /// Counts an entry that the target has now. `existed` is whether the target had it before this attempt.
    fn count(&mut self, entry: &Entry, existed: bool) {
        self.counts.files += 1;
        self.counts.bytes += entry.len();
        self.counts.skipped += u64::from(existed);
        self.ctx.progress(self.counts.fraction(0), self.counts.copying_message());
    }

    /// Copies a file, and updates the progress and the step's expected end during the copy.
    fn copy_file(
        &mut self,
        target: usize,
        entry: &Entry,
        attributes: &Attributes,
        sync: SyncTime,
        step: &Step,
    ) -> Result<(), CopyError> {
        let (ctx, counts, started_at) = (&self.ctx, &self.counts, Instant::now());
        let locations = (&self.source.locate(&entry.path)?, &self.targets[target].tree.locate(&entry.path)?);
        let message = counts.copying_message();
        let mut bytes_done = 0;
        if let Some(expected) = counts.time_for(attributes.len) {
            step.expect_end_in(expected);
        }
        let (temporary, limiter, interrupt) = (&self.temporary, &self.limiter, step.interruption());
        let context = CopyContext { attributes, temporary, sync, limiter, interrupt };
        copy::copy_file(locations, &context, |bytes| {
            bytes_done += bytes;
            let (left, spent) = (attributes.len.saturating_sub(bytes_done), started_at.elapsed());
            let by_own_speed = if spent < OWN_SPEED_AFTER { None } else { time_for(left, bytes_done, spent) };
            if let Some(expected) = by_own_speed.or_else(|| counts.time_for(left)) {
                step.expect_end_in(expected);
            }
            ctx.progress(counts.fraction(bytes_done), message.as_str());
        })?;
        self.counts.copied_bytes += bytes_done;
        self.counts.copying_time += started_at.elapsed();
        Ok(())
    }

    /// Sets the attributes of a target's directories and syncs the target to the disk. Then the target is done.
    fn finish(&mut self, target: usize) -> Result<(), CopyError> {
        let tree = &mut self.targets[target].tree;
        let path = tree.path_of(Path::new(""));
        let opened = tree.open_directory(Path::new(""))?.open_for_reading();
        for entry in self.plan.entries.iter().rev() {
            if let Content::Dir(attributes) = &entry.content {
                let path = tree.path_of(&entry.path);
                copy::finish_dir(tree.open_directory(&entry.path)?, &path, attributes)?;
            }
        }
        let opened = opened.map_err(|error| CopyError::io("writing to the disk", &path, &error.into()))?;
        copy::sync_filesystem(&opened, &path)?;
        self.counts.targets_done += 1;
        let has_next_target = target + 1 < self.targets.len();
        self.next = match (has_next_target, self.counts.verify) {
            (true, _) => NextAction::Copy { target: target + 1, entry: 0 },
            (false, true) => NextAction::Verify { target: 0, entry: 0 },
            (false, false) => NextAction::Complete,
        };
        Ok(())
    }

    /// Compares a copy with its source. A copy that differs may be a file that existed before the attempt, so it is
    /// copied once more and compared again.
    fn verify(&mut self, target: usize, index: usize, step: &Step) -> Result<(), CopyError> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(index) else {
            let has_next_target = target + 1 < self.targets.len();
            self.next = if has_next_target {
                NextAction::Verify { target: target + 1, entry: 0 }
            } else {
                NextAction::Complete
            };
            return Ok(());
        };
        if let Content::File(attributes) = &entry.content {
            let Some(mut same) = self.is_same(target, entry, attributes, step)? else { return Ok(()) };
            if !same {
                self.repair(target, entry, attributes, step)?;
                let Some(same_now) = self.is_same(target, entry, attributes, step)? else { return Ok(()) };
                same = same_now;
            }
            if !same {
                let copy = self.targets[target].tree.path_of(&entry.path);
                let message = format!("{} still differs from its source after it was copied again", copy.display());
                return Err(CopyError::retryable("verify_failed", message));
            }
        }
        if !matches!(entry.content, Content::Dir(_)) {
            self.counts.verified += 1;
            self.counts.bytes_verified += entry.len();
            self.ctx.progress(self.counts.fraction(0), self.counts.verifying_message());
        }
        self.next = NextAction::Verify { target, entry: index + 1 };
        Ok(())
    }

    /// Copies a file into a finished directory again, and restores the directory's permissions and times.
    fn repair(&mut self, target: usize, entry: &Entry, attributes: &Attributes, step: &Step) -> Result<(), CopyError> {
        let dir = entry.path.parent().unwrap_or(&entry.path);
        let path = self.targets[target].tree.path_of(dir);
        let dir_attributes = copy::reopen_dir(self.targets[target].tree.open_directory(dir)?, &path)?;
        let result = self.copy_file(target, entry, attributes, SyncTime::BeforeRename, step);
        copy::finish_dir(self.targets[target].tree.open_directory(dir)?, &path, &dir_attributes)?;
        result?;
        self.counts.repaired += 1;
        Ok(())
    }

    /// Whether the copy is equal to its source; `None` if the task is cancelled or interrupted during the comparison.
    fn is_same(
        &mut self,
        target: usize,
        entry: &Entry,
        attributes: &Attributes,
        step: &Step,
    ) -> Result<Option<bool>, CopyError> {
        let (ctx, counts, message, mut bytes_done) = (&self.ctx, &self.counts, self.counts.verifying_message(), 0);
        let should_continue = |_| !ctx.observe_cancel() && !step.is_interrupted();
        let (from, to) = (self.source.locate(&entry.path)?, self.targets[target].tree.locate(&entry.path)?);
        let Some(source) = verify::hash_source(&from, attributes, should_continue)? else { return Ok(None) };
        verify::has_hash(&to, source, |bytes| {
            bytes_done += bytes;
            ctx.progress(counts.fraction(bytes_done), message.as_str());
            should_continue(bytes)
        })
    }
}
