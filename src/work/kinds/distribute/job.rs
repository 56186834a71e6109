//! A distribution under way: what is done, what comes next.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::{Fault, interrupted};
use super::input::Order;
use super::limit::Limiter;
use super::plan::{Entry, Plan, Traits, What};
use super::put::{self, Sync};
use super::roots::{Roots, join};
use super::tally::{Tally, time_for};
use super::verify;
use super::words::many;
use crate::work::worker::context::{Context, Step};
use crate::work::worker::handler::{Done, Failure};

/// How long one blocking step goes on with small files before it makes way.
const TURN: Duration = Duration::from_millis(50);
/// A file's own speed counts from here on; before, that of the files before it.
const OWN_SPEED_AFTER: Duration = Duration::from_millis(100);

/// A distribution under way. It goes from one blocking step to the next.
pub(super) struct Job {
    ctx: Context,
    limiter: Arc<Limiter>,
    /// As it really is, symlinks followed.
    source: PathBuf,
    /// As they really are, and as the input names them.
    targets: Vec<(PathBuf, PathBuf)>,
    plan: Arc<Plan>,
    /// The name that a file has while it is copied: this task's alone, so that its next attempt finds it.
    temp: String,
    next: Next,
    tally: Tally,
}

/// What comes next; numbers are places in `targets` and `plan.entries`.
#[derive(Clone, Copy)]
enum Next {
    Copy { target: usize, entry: usize },
    Finish { target: usize },
    Verify { entry: usize, target: usize },
    Nothing,
}

impl Job {
    /// Looks where the paths really lead and counts what is to be copied; none where it was cancelled meanwhile.
    pub fn begin(
        ctx: Context,
        order: Order,
        roots: &Roots,
        limiter: Arc<Limiter>,
        step: &Step,
    ) -> Result<Option<Self>, Fault> {
        let places = roots.resolve(&order)?;
        let plan = Plan::survey(&places.source, |plan| {
            if plan.entries.len() % 1000 == 999 {
                ctx.progress(None, format!("counting: {} so far", many(plan.files, "file")));
            }
            !ctx.is_cancelled() && !step.is_interrupted()
        })?;
        let Some(plan) = plan else { return Ok(None) };
        let tally = Tally::new(&plan, order.targets.len(), order.verify);
        let targets = places.targets.into_iter().zip(order.targets).collect();
        let temp = format!(".taskbell-{}.tmp", ctx.task_id());
        let (source, plan, next) = (places.source, Arc::new(plan), Next::Copy { target: 0, entry: 0 });
        Ok(Some(Self { ctx, limiter, source, targets, plan, temp, next, tally }))
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// What comes next, as the name of a step.
    pub fn doing(&self) -> String {
        let path = |entry: usize| self.plan.entries.get(entry).map_or(".".into(), |entry| entry.path.to_string_lossy());
        match self.next {
            Next::Copy { target, entry } => format!("copying {} to {}", path(entry), self.targets[target].1.display()),
            Next::Finish { target } => format!("writing {} to the disk", self.targets[target].1.display()),
            Next::Verify { target, entry } => {
                format!("verifying {} in {}", path(entry), self.targets[target].1.display())
            }
            Next::Nothing => "done".to_owned(),
        }
    }

    /// Goes on for one turn, or with one large file to its end. Stops between files where somebody asked for that.
    pub fn turn(&mut self, step: &Step) -> Result<(), Fault> {
        let begun = Instant::now();
        while !self.is_done() && begun.elapsed() < TURN && !self.ctx.is_cancelled() {
            if step.is_interrupted() {
                return Err(interrupted());
            }
            step.rename(self.doing());
            match self.next {
                Next::Copy { target, entry } => self.copy(target, entry, step)?,
                Next::Finish { target } => self.finish(target)?,
                Next::Verify { entry, target } => self.verify(entry, target, step)?,
                Next::Nothing => {}
            }
        }
        Ok(())
    }

    /// It stopped because it was asked to.
    pub fn stopped(&self) -> Failure {
        Failure::Cancelled { message: Some(self.tally.stopped()), result: Some(self.tally.result()) }
    }

    /// It is done.
    pub fn done(&self) -> Done {
        Done::new(self.tally.succeeded()).with_result(self.tally.result())
    }

    fn copy(&mut self, target: usize, at: usize, step: &Step) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(at) else {
            self.next = Next::Finish { target };
            return Ok(());
        };
        let (from, to) = self.ends(entry, target);
        match &entry.what {
            What::Dir(traits) => put::dir(&to, traits, &self.temp)?,
            What::Link(leads_to) => {
                let there = put::link(&from, &to, leads_to, &self.temp)?;
                self.count(entry, there);
            }
            What::File(traits) => {
                let there = put::is_there(&to, traits);
                if !there {
                    self.copy_file(target, entry, traits, Sync::for_len(traits.len), step)?;
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

    /// While it runs, the step is expected to end by the file's own speed, as soon as it has one.
    fn copy_file(
        &mut self,
        target: usize,
        entry: &Entry,
        traits: &Traits,
        sync: Sync,
        step: &Step,
    ) -> Result<(), Fault> {
        let (from, to) = self.ends(entry, target);
        let (ctx, tally, begun) = (&self.ctx, &self.tally, Instant::now());
        let words = tally.copying();
        let mut done = 0;
        if let Some(expected) = tally.time_for(traits.len) {
            step.expect_end_in(expected);
        }
        put::file((&from, &to), traits, &self.temp, &self.limiter, sync, |bytes| {
            done += bytes;
            let (left, spent) = (traits.len.saturating_sub(done), begun.elapsed());
            let own = if spent < OWN_SPEED_AFTER { None } else { time_for(left, done, spent) };
            if let Some(expected) = own.or_else(|| tally.time_for(left)) {
                step.expect_end_in(expected);
            }
            ctx.progress(tally.fraction(done), words.as_str());
            !step.is_interrupted()
        })?;
        self.tally.moved += done;
        self.tally.spent += begun.elapsed();
        Ok(())
    }

    /// A target counts as done when all of it is on the disk.
    fn finish(&mut self, target: usize) -> Result<(), Fault> {
        for entry in self.plan.entries.iter().rev() {
            if let What::Dir(traits) = &entry.what {
                put::finish_dir(&join(&self.targets[target].0, &entry.path), traits)?;
            }
        }
        put::settle(&self.targets[target].0)?;
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
    fn verify(&mut self, at: usize, target: usize, step: &Step) -> Result<(), Fault> {
        let plan = Arc::clone(&self.plan);
        let Some(entry) = plan.entries.get(at) else {
            self.next = if target + 1 < self.targets.len() {
                Next::Verify { target: target + 1, entry: 0 }
            } else {
                Next::Nothing
            };
            return Ok(());
        };
        if let What::File(traits) = &entry.what {
            let Some(mut same) = self.is_same(entry, traits, target, step)? else { return Ok(()) };
            if !same {
                let (_, to) = self.ends(entry, target);
                let dir = to.parent().unwrap_or(&to);
                put::reopened(dir, || self.copy_file(target, entry, traits, Sync::First, step))?;
                self.tally.repaired += 1;
                let Some(now) = self.is_same(entry, traits, target, step)? else { return Ok(()) };
                same = now;
            }
            if !same {
                let copy = join(&self.targets[target].0, &entry.path);
                let message = format!("{} is not what was copied, twice", copy.display());
                return Err(Fault::passing("verify_failed", message));
            }
        }
        if !matches!(entry.what, What::Dir(_)) {
            self.tally.verified += 1;
            self.tally.bytes_verified += entry.len();
            self.ctx.progress(self.tally.fraction(0), self.tally.verifying());
        }
        self.next = Next::Verify { target, entry: at + 1 };
        Ok(())
    }

    /// Whether the copy is what its source is; none where it was cancelled meanwhile.
    fn is_same(&self, entry: &Entry, traits: &Traits, target: usize, step: &Step) -> Result<Option<bool>, Fault> {
        let (from, to) = self.ends(entry, target);
        let (words, mut done) = (self.tally.verifying(), 0);
        let go_on = |_| !self.ctx.is_cancelled() && !step.is_interrupted();
        let Some(source) = verify::of_source(&from, traits, go_on)? else { return Ok(None) };
        verify::is_copy(&to, source, |bytes| {
            done += bytes;
            self.ctx.progress(self.tally.fraction(done), words.as_str());
            go_on(bytes)
        })
    }

    fn ends(&self, entry: &Entry, target: usize) -> (PathBuf, PathBuf) {
        (join(&self.source, &entry.path), join(&self.targets[target].0, &entry.path))
    }
}
