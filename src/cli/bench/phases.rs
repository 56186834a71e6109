//! The phases create, batch, drain, latency and live, which run one after the other on one server.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use uuid::Uuid;

use super::check::counts;
use super::connection::LoadConnection;
use super::figures::Figures;
use super::load::{LoadSpec, RunScope, produce};
use super::server::{ResourceUsage, Server, process_cpu_time};
use super::worker::{Worker, WorkerConnections};
use super::{BenchPlan, Phase};
use crate::cli::command_error::CommandError;

/// The number of producers that run at the same time.
pub(super) const PRODUCERS: usize = 32;
/// The most tasks that a single producer creates in one measurement.
const TASKS_MAX_OF_ONE_PRODUCER: u64 = 20_000;
/// The most tasks that [`PRODUCERS`] producers together create in one measurement.
pub(super) const TASKS_MAX_OF_ALL_PRODUCERS: u64 = 40_000;
/// The number of tasks in the latency phase that are created before the timed tasks.
const WARM_UP_LATENCY_TASKS: u64 = 20;
/// The pause before the counters are requested again to see whether all tasks have ended.
const COUNT_PAUSE: Duration = Duration::from_millis(20);

/// Runs the phases on one server.
pub(super) struct PhaseRunner<'a> {
    pub(super) server: &'a Server,
    pub(super) scope: RunScope,
    pub(super) plan: &'a BenchPlan,
    pub(super) figures: &'a mut Figures,
    /// The memory and disk space of the server before the first phase.
    idle: Option<ResourceUsage>,
}

impl<'a> PhaseRunner<'a> {
    pub(super) fn new(server: &'a Server, scope: RunScope, plan: &'a BenchPlan, figures: &'a mut Figures) -> Self {
        let idle = server.usage();
        Self { server, scope, plan, figures, idle }
    }

    /// Runs the phases of the plan. Returns whether all created tasks have ended.
    pub(super) async fn run(&mut self) -> Result<bool, CommandError> {
        let is_planned = |phase| self.plan.phases.contains(&phase);
        let (drain, latency, live) = (is_planned(Phase::Drain), is_planned(Phase::Latency), is_planned(Phase::Live));
        if is_planned(Phase::Create) {
            self.create().await?;
        }
        if self.plan.phases.contains(&Phase::Batch) {
            self.batch().await?;
        }
        if drain {
            self.fill_backlog().await?;
        }
        if !(drain || latency || live) {
            return Ok(self.created() == 0);
        }
        let mut worker = self.start_worker_and_empty_queue(drain).await?;
        if latency {
            tokio::time::sleep(self.plan.phase_pause).await;
            self.latency(&mut worker).await?;
        }
        if live {
            tokio::time::sleep(self.plan.phase_pause / 2).await;
            self.live(&mut worker).await?;
        }
        Ok(true)
    }

    async fn create(&mut self) -> Result<(), CommandError> {
        for (connections, most) in [(1, TASKS_MAX_OF_ONE_PRODUCER), (PRODUCERS, TASKS_MAX_OF_ALL_PRODUCERS)] {
            let spec = LoadSpec { connections, requests: most, batch_size: None, time_limit: self.plan.produce_for };
            let (created_before, cpu_before) = (self.created(), self.cpu_time());
            let load_result = produce(&self.scope, spec).await?;
            let label = format!("create one by one, {connections} connections, tasks/s");
            let name = format!("create_{connections}");
            self.figures.add(&format!("{name}_per_s"), &label, load_result.rate());
            self.add_cpu_time(&name, cpu_before, self.created() - created_before);
        }
        Ok(())
    }

    async fn batch(&mut self) -> Result<(), CommandError> {
        for size in [100, 1000] {
            let spec = LoadSpec {
                connections: 1,
                requests: self.plan.batched_tasks / size,
                batch_size: Some(size),
                time_limit: self.plan.produce_for,
            };
            let (created_before, cpu_before) = (self.created(), self.cpu_time());
            let load_result = produce(&self.scope, spec).await?;
            let label = format!("create in batches of {size}, 1 producer, tasks/s");
            self.figures.add(&format!("batch_{size}_per_s"), &label, load_result.rate());
            self.add_cpu_time(&format!("batch_{size}"), cpu_before, self.created() - created_before);
        }
        Ok(())
    }

    /// Creates tasks until the backlog of the plan is reached.
    async fn fill_backlog(&self) -> Result<(), CommandError> {
        let missing = self.plan.backlog.saturating_sub(self.created());
        let mut connection = LoadConnection::open(&self.scope.server).await?;
        for first in (0..missing).step_by(1000) {
            self.scope.create_batch(&mut connection, first, (missing - first).min(1000)).await?;
        }
        Ok(())
    }

    /// Starts a worker and waits until it has executed all queued tasks. Adds figures if `is_measured`. The measured time begins with the start of the first
    /// handler. It ends when the server counts no open task, because then every end is durable. Returns the worker,
    /// which keeps running.
    async fn start_worker_and_empty_queue(&mut self, is_measured: bool) -> Result<Worker, CommandError> {
        let mut connection = LoadConnection::open(&self.scope.server).await?;
        let tasks = counts(&mut connection, &self.scope).await?.open();
        let (cpu_before, peak) = (self.cpu_time(), self.server.pid().map(PeakMemory::start));
        let mut worker = Worker::start(&self.scope, self.plan.worker).await?;
        worker.wait_for_ends(tasks).await?;
        while counts(&mut connection, &self.scope).await?.open() > 0 {
            tokio::time::sleep(COUNT_PAUSE).await;
        }
        let Some(first) = worker.progress.first_start.get().filter(|_| is_measured) else { return Ok(worker) };
        let took = first.elapsed();
        self.figures.add("drain_per_s", "drain, 1 worker, tasks/s", ratio(tasks, took.as_secs_f64()));
        self.figures.add("drained", "  tasks drained", ratio(tasks, 1.0));
        self.add_cpu_time("drain", cpu_before, tasks);
        if let Some(after) = self.server.usage() {
            self.add_usage(after, peak.as_ref());
        }
        Ok(worker)
    }

    /// The number of tasks created so far.
    fn created(&self) -> u64 {
        self.scope.created_count.load(Ordering::Relaxed)
    }

    /// The CPU time so far of the server, if this process started it, and of this process, which sends the load.
    fn cpu_time(&self) -> [Option<Duration>; 2] {
        [self.server.pid(), Some(std::process::id())].map(|pid| pid.and_then(process_cpu_time))
    }

    /// Adds the CPU time per task since `before`. On a machine that is busy with other programs, it varies less than
    /// the rate.
    fn add_cpu_time(&mut self, name: &str, before: [Option<Duration>; 2], tasks: u64) {
        let processes = [("server", "  server's CPU per task, µs"), ("load", "  load's CPU per task, µs")];
        for ((process, label), (before, after)) in processes.into_iter().zip(before.into_iter().zip(self.cpu_time())) {
            if let (Some(before), Some(after)) = (before, after) {
                let per_task = after.saturating_sub(before).as_secs_f64() * 1e6 / ratio(tasks, 1.0);
                self.figures.add(&format!("{name}_{process}_cpu_us"), label, per_task);
            }
        }
    }

    /// Adds the growth of memory and disk space since the first phase, divided by the number of created tasks.
    fn add_usage(&mut self, after: ResourceUsage, peak: Option<&PeakMemory>) {
        let Some(idle) = self.idle else { return };
        let tasks = self.created();
        let mb = |bytes: u64| ratio(bytes, 1e6);
        self.figures.add("idle_pss_mb", "server before the load, PSS, MB", mb(idle.pss));
        if let Some(peak) = peak {
            self.figures.add(
                "peak_pss_mb",
                "server's maximum during the drain, PSS, MB",
                mb(peak.bytes().max(after.pss)),
            );
        }
        let per_task = |bytes: u64, idle: u64| ratio(bytes.saturating_sub(idle), ratio(tasks, 1.0));
        self.figures.add("memory_bytes_per_task", "memory per created task, bytes", per_task(after.pss, idle.pss));
        self.figures.add("disk_bytes_per_task", "disk per created task, bytes", per_task(after.disk, idle.disk));
    }

    /// Creates about 50 tasks a second for an idle worker, without waiting for the response to the previous request. A
    /// latency is the time from just before the request to the start of the handler.
    async fn latency(&mut self, worker: &mut Worker) -> Result<(), CommandError> {
        let mut idle_connections = Vec::new();
        for _ in 0..8 {
            idle_connections.push(LoadConnection::open(&self.scope.server).await?);
        }
        let idle_connections = Arc::new(Mutex::new(idle_connections));
        let (mut requests, mut response_times) = (JoinSet::new(), Vec::new());
        let ended = worker.progress.ended.load(Ordering::Relaxed);
        worker.take_start_latencies();
        for number in 0..WARM_UP_LATENCY_TASKS + self.plan.latency_tasks {
            let (scope, idle_connections) = (self.scope.clone(), idle_connections.clone());
            let timed = number >= WARM_UP_LATENCY_TASKS;
            requests.spawn(async move {
                let started_at = Instant::now();
                let connection = idle_connections.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let mut connection = match connection {
                    Some(connection) => connection,
                    None => LoadConnection::open(&scope.server).await?,
                };
                scope.create(&mut connection, number, timed).await?;
                let took = started_at.elapsed();
                idle_connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                Ok::<_, CommandError>(timed.then_some(took))
            });
            tokio::time::sleep(jittered(self.plan.latency_gap)).await;
        }
        while let Some(request) = requests.join_next().await {
            response_times.extend(request.map_err(|error| CommandError::failed(error.to_string()))??);
        }
        worker.wait_for_ends(ended + WARM_UP_LATENCY_TASKS + self.plan.latency_tasks).await?;
        self.figures.add_durations("start", "create to start of the handler, idle", worker.take_start_latencies());
        self.figures.add_durations("create", "create to its response, idle", response_times);
        Ok(())
    }

    /// Runs producers and the worker at the same time. The rate is the number of tasks, divided by the time until the
    /// last end was acknowledged.
    async fn live(&mut self, worker: &mut Worker) -> Result<(), CommandError> {
        let counts =
            |worker: &Worker| [&worker.progress.takes, &worker.progress.reports].map(|n| n.load(Ordering::Relaxed));
        let (ended, [takes_before, reports_before]) = (worker.progress.ended.load(Ordering::Relaxed), counts(worker));
        let (created_before, cpu_before) = (self.created(), self.cpu_time());
        let spec = LoadSpec {
            connections: PRODUCERS,
            requests: TASKS_MAX_OF_ALL_PRODUCERS,
            batch_size: None,
            time_limit: self.plan.live_for,
        };
        let load_result = produce(&self.scope, spec).await?;
        let since = Instant::now();
        // This includes the tasks of the warm-up.
        let created = self.created() - created_before;
        worker.wait_for_ends(ended + created).await?;
        let took = load_result.took + since.elapsed();
        let label = format!("live, {PRODUCERS} producers and a worker, end to end, tasks/s");
        self.figures.add("live_per_s", &label, ratio(load_result.tasks, took.as_secs_f64()));
        self.figures.add(
            "live_tail_s",
            "  time from the last create to the last end, s",
            since.elapsed().as_secs_f64(),
        );
        let [takes, reports] = counts(worker);
        self.figures.add(
            "live_leases_per_take",
            "  leases per request",
            ratio(created, ratio(takes - takes_before, 1.0)),
        );
        self.figures.add(
            "live_ends_per_report",
            "  ends per report",
            ratio(created, ratio(reports - reports_before, 1.0)),
        );
        self.add_cpu_time("live", cpu_before, created);
        Ok(())
    }
}

/// `count` divided by `by`; with 1.0, the count as a floating-point number.
#[allow(clippy::cast_precision_loss)]
pub(super) fn ratio(count: u64, by: f64) -> f64 {
    count as f64 / by
}

/// A random duration from 0.5 to 1.5 times `gap`.
pub(super) fn jittered(gap: Duration) -> Duration {
    let share = Uuid::new_v4().as_u64_pair().1 % 1001;
    gap.mul_f64(0.5 + ratio(share, 1000.0))
}

/// Reads the memory (PSS) of a process every second and stores the largest value.
struct PeakMemory {
    bytes: Arc<std::sync::atomic::AtomicU64>,
    sampler: tokio::task::JoinHandle<()>,
}

impl PeakMemory {
    fn start(pid: u32) -> Self {
        let bytes = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let largest = bytes.clone();
        let sampler = tokio::spawn(async move {
            let mut interval = tokio::time::interval(Duration::from_secs(1));
            loop {
                interval.tick().await;
                let Some((_, pss)) = super::server::process_memory(pid) else { return };
                largest.fetch_max(pss, Ordering::Relaxed);
            }
        });
        Self { bytes, sampler }
    }

    /// The largest value so far, in bytes.
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.sampler.abort();
    }
}

/// The connections of the default worker. They are enough to keep a server busy on the same two cores.
pub(super) const DEFAULT_WORKER: WorkerConnections =
    WorkerConnections { takers: 2, leases_per_take: 500, reporters: 2 };
