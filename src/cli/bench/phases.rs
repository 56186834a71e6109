//! The phases that run on one server, one after the other: create, batch, drain, latency, live.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use super::check::counts;
use super::figures::Figures;
use super::load::{Order, Scope, produce};
use super::server::{Server, Usage, cpu};
use super::wire::Wire;
use super::worker::{Worker, WorkerShape};
use super::{Phase, Plan};
use crate::cli::failure::Failure;

/// Producers that run at the same time.
pub(super) const PRODUCERS: usize = 32;
/// The most tasks that one producer, and that all producers together, create in one phase.
const ONE_MAX: u64 = 20_000;
pub(super) const ALL_MAX: u64 = 40_000;
/// Tasks before those whose latencies count.
const WARM_SINGLES: u64 = 20;
/// The pause before the server is asked again whether all tasks have ended.
const COUNT_AGAIN: Duration = Duration::from_millis(20);

/// One run on one server.
pub(super) struct Run<'a> {
    pub(super) server: &'a Server,
    pub(super) scope: Scope,
    pub(super) plan: &'a Plan,
    pub(super) figures: &'a mut Figures,
    idle: Option<Usage>,
}

impl<'a> Run<'a> {
    pub(super) fn new(server: &'a Server, scope: Scope, plan: &'a Plan, figures: &'a mut Figures) -> Self {
        let idle = server.usage();
        Self { server, scope, plan, figures, idle }
    }

    /// Runs the phases of the plan; whether all tasks have ended.
    pub(super) async fn main(&mut self) -> Result<bool, Failure> {
        let wants = |phase| self.plan.phases.contains(&phase);
        let (drain, latency, live) = (wants(Phase::Drain), wants(Phase::Latency), wants(Phase::Live));
        if wants(Phase::Create) {
            self.create().await?;
        }
        if self.plan.phases.contains(&Phase::Batch) {
            self.batch().await?;
        }
        if drain {
            self.top_up().await?;
        }
        if !(drain || latency || live) {
            return Ok(self.created() == 0);
        }
        let mut worker = self.drain(drain).await?;
        if latency {
            tokio::time::sleep(self.plan.pause).await;
            self.latency(&mut worker).await?;
        }
        if live {
            tokio::time::sleep(self.plan.pause / 2).await;
            self.live(&mut worker).await?;
        }
        Ok(true)
    }

    async fn create(&mut self) -> Result<(), Failure> {
        for (connections, most) in [(1, ONE_MAX), (PRODUCERS, ALL_MAX)] {
            let order = Order { connections, calls: most, batch: None, at_most: self.plan.produce_for };
            let (before, spent) = (self.created(), self.cpu_time());
            let produced = produce(&self.scope, order).await?;
            let label = format!("create one by one, {connections} connections, tasks/s");
            let name = format!("create_{connections}");
            self.figures.keep(&format!("{name}_per_s"), &label, produced.rate());
            self.keep_cpu_time(&name, spent, self.created() - before);
        }
        Ok(())
    }

    async fn batch(&mut self) -> Result<(), Failure> {
        for size in [100, 1000] {
            let order = Order {
                connections: 1,
                calls: self.plan.batched / size,
                batch: Some(size),
                at_most: self.plan.produce_for,
            };
            let (before, spent) = (self.created(), self.cpu_time());
            let produced = produce(&self.scope, order).await?;
            let label = format!("create in batches of {size}, 1 caller, tasks/s");
            self.figures.keep(&format!("batch_{size}_per_s"), &label, produced.rate());
            self.keep_cpu_time(&format!("batch_{size}"), spent, self.created() - before);
        }
        Ok(())
    }

    /// Creates the tasks that are missing to the backlog.
    async fn top_up(&self) -> Result<(), Failure> {
        let missing = self.plan.n.saturating_sub(self.created());
        let mut wire = Wire::open(&self.scope.server).await?;
        for first in (0..missing).step_by(1000) {
            self.scope.create_batch(&mut wire, first, (missing - first).min(1000)).await?;
        }
        Ok(())
    }

    /// Drains the backlog: from the first handler's start until the server counts no open task, so that every end is durable.
    /// Returns the worker, which goes on.
    async fn drain(&mut self, measured: bool) -> Result<Worker, Failure> {
        let mut wire = Wire::open(&self.scope.server).await?;
        let tasks = counts(&mut wire, &self.scope).await?.open();
        let (spent, peak) = (self.cpu_time(), self.server.pid().map(Peak::watch));
        let mut worker = Worker::start(&self.scope, self.plan.worker).await?;
        worker.until_ended(tasks).await?;
        while counts(&mut wire, &self.scope).await?.open() > 0 {
            tokio::time::sleep(COUNT_AGAIN).await;
        }
        let Some(first) = worker.done.first.get().filter(|_| measured) else { return Ok(worker) };
        let took = first.elapsed();
        self.figures.keep("drain_per_s", "drain, 1 worker, tasks/s", per(tasks, took.as_secs_f64()));
        self.figures.keep("drained", "  tasks drained", per(tasks, 1.0));
        self.keep_cpu_time("drain", spent, tasks);
        if let Some(after) = self.server.usage() {
            self.memory(after, peak.as_ref());
        }
        Ok(worker)
    }

    fn created(&self) -> u64 {
        self.scope.created.load(Ordering::Relaxed)
    }

    /// CPU time so far: the server's, if this process started it, and the load's.
    fn cpu_time(&self) -> [Option<Duration>; 2] {
        [self.server.pid(), Some(std::process::id())].map(|pid| pid.and_then(cpu))
    }

    /// Keeps the CPU time of each task since `before`. On a machine that is busy with other programs this is steadier than
    /// the rate.
    fn keep_cpu_time(&mut self, name: &str, before: [Option<Duration>; 2], tasks: u64) {
        let places = [("server", "  server's CPU per task, µs"), ("load", "  load's CPU per task, µs")];
        for ((who, label), (before, after)) in places.into_iter().zip(before.into_iter().zip(self.cpu_time())) {
            if let (Some(before), Some(after)) = (before, after) {
                let each = after.saturating_sub(before).as_secs_f64() * 1e6 / per(tasks, 1.0);
                self.figures.keep(&format!("{name}_{who}_cpu_us"), label, each);
            }
        }
    }

    fn memory(&mut self, after: Usage, peak: Option<&Peak>) {
        let Some(idle) = self.idle else { return };
        let tasks = self.created();
        let mb = |bytes: u64| per(bytes, 1e6);
        self.figures.keep("idle_pss_mb", "server idle at first, PSS, MB", mb(idle.pss));
        if let Some(peak) = peak {
            self.figures.keep(
                "peak_pss_mb",
                "server at most during the drain, PSS, MB",
                mb(peak.most().max(after.pss)),
            );
        }
        let each = |bytes: u64, idle: u64| per(bytes.saturating_sub(idle), per(tasks, 1.0));
        self.figures.keep("memory_bytes_per_task", "memory per drained task, bytes", each(after.pss, idle.pss));
        self.figures.keep("disk_bytes_per_task", "disk per drained task, bytes", each(after.disk, idle.disk));
    }

    /// Some 50 tasks a second for an idle worker, whether or not the last request was answered. Measures from just before the
    /// request to the start of the handler.
    async fn latency(&mut self, worker: &mut Worker) -> Result<(), Failure> {
        let mut spare = Vec::new();
        for _ in 0..8 {
            spare.push(Wire::open(&self.scope.server).await?);
        }
        let spare = Arc::new(Mutex::new(spare));
        let (mut calls, mut waits) = (JoinSet::new(), Vec::new());
        let ended = worker.done.ended.load(Ordering::Relaxed);
        worker.take_waits();
        for number in 0..WARM_SINGLES + self.plan.singles {
            let (scope, spare) = (self.scope.clone(), spare.clone());
            let timed = number >= WARM_SINGLES;
            calls.spawn(async move {
                let began = Instant::now();
                let wire = spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut wire = match wire {
                    Some(wire) => wire,
                    None => Wire::open(&scope.server).await?,
                };
                scope.create(&mut wire, number, timed).await?;
                let took = began.elapsed();
                spare.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
                Ok::<_, Failure>(timed.then_some(took))
            });
            tokio::time::sleep(jittered(self.plan.gap)).await;
        }
        while let Some(call) = calls.join_next().await {
            waits.extend(call.map_err(|error| Failure::failed(error.to_string()))??);
        }
        worker.until_ended(ended + WARM_SINGLES + self.plan.singles).await?;
        self.figures.keep_waits("start", "create to start of the handler, idle", worker.take_waits());
        self.figures.keep_waits("create", "create to its answer, idle", waits);
        Ok(())
    }

    /// Producers and worker at the same time: all tasks, divided by the time until the last end was acknowledged.
    async fn live(&mut self, worker: &mut Worker) -> Result<(), Failure> {
        let calls = |worker: &Worker| [&worker.done.takes, &worker.done.reports].map(|n| n.load(Ordering::Relaxed));
        let (ended, [takes, reports]) = (worker.done.ended.load(Ordering::Relaxed), calls(worker));
        let (created, spent) = (self.created(), self.cpu_time());
        let order = Order { connections: PRODUCERS, calls: ALL_MAX, batch: None, at_most: self.plan.live_for };
        let produced = produce(&self.scope, order).await?;
        let since = Instant::now();
        // The warm-up's tasks are among them.
        let made = self.created() - created;
        worker.until_ended(ended + made).await?;
        let took = produced.took + since.elapsed();
        let label = format!("live, {PRODUCERS} producers and a worker, end to end, tasks/s");
        self.figures.keep("live_per_s", &label, per(produced.tasks, took.as_secs_f64()));
        self.figures.keep("live_tail_s", "  until the last had ended, s", since.elapsed().as_secs_f64());
        let [takes_then, reports_then] = calls(worker);
        self.figures.keep("live_leases_per_take", "  leases of a take", per(made, per(takes_then - takes, 1.0)));
        self.figures.keep("live_ends_per_report", "  ends of a report", per(made, per(reports_then - reports, 1.0)));
        self.keep_cpu_time("live", spent, made);
        Ok(())
    }
}

/// A count divided by a number.
#[allow(clippy::cast_precision_loss)]
pub(super) fn per(count: u64, by: f64) -> f64 {
    count as f64 / by
}

/// A random duration between half of `gap` and one and a half of it.
pub(super) fn jittered(gap: Duration) -> Duration {
    let share = Uuid::new_v4().as_u64_pair().1 % 1001;
    gap.mul_f64(0.5 + per(share, 1000.0))
}

/// The most memory that a process takes, looked up every second.
struct Peak {
    most: Arc<std::sync::atomic::AtomicU64>,
    watching: tokio::task::JoinHandle<()>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let most = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = most.clone();
        let watching = tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1));
            loop {
                clock.tick().await;
                let Some((_, pss)) = super::server::memory(pid) else { return };
                seen.fetch_max(pss, Ordering::Relaxed);
            }
        });
        Self { most, watching }
    }

    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for Peak {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// The default worker: enough to keep a server on the same two cores busy.
pub(super) const WORKER: WorkerShape = WorkerShape { takers: 2, max: 500, reporters: 2 };
