//! `taskbell bench`: sends a load to a server and prints figures. It starts the server, or uses the one that `--server`
//! names.
//!
//! The phases are common in comparisons of job queues. The tasks do nothing, and each has 200 bytes of input. A task is
//! counted when the server has acknowledged it. If the server refuses a request, the run fails. At the end, the
//! counters and the log must contain every acknowledged task. If a worker ran, each task must have ended once.

mod cancel;
mod check;
mod cluster;
mod connection;
mod figures;
mod idle_sockets;
mod load;
mod pending;
mod phases;
mod server;
mod sockets;
mod store;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::client::{Client, ConnectionArgs};
use super::command_error::CommandError;
use super::console;
use taskbell::Secret;

use connection::{LoadConnection, ServerAddress};
use figures::Figures;
use load::{INPUT_BYTES, RunScope};
use phases::PhaseRunner;
use server::Server;
use store::BenchStore;
use worker::WorkerConnections;

/// Measures a server.
#[derive(Debug, Args)]
pub struct Bench {
    /// Phases to run, separated by commas [default: all but sockets]
    #[arg(long, value_enum, value_name = "PHASE,…", value_delimiter = ',')]
    phase: Vec<Phase>,
    /// Number of tasks that are queued when the drain phase starts [default: 100000]
    #[arg(long = "n", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    backlog: Option<u64>,
    /// Number of runs, each on a new server; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Use small numbers, to test the bench itself; the figures are not valid
    #[arg(long)]
    quick: bool,
    /// Numbers of queued tasks for the pending phase, separated by commas [default: 1000,1000000]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pending: Option<Vec<u64>>,
    /// Number of websockets in the phase sockets [default: 2000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=15_000))]
    sockets: Option<u64>,
    /// Log of the measured server: sqlite, memory, or the address of a cluster. With a cluster, only the live phase runs: on
    /// an embedded log, on one server with the cluster, and on two servers with the cluster
    #[arg(long, env = "TASKBELL_BENCH_STORE", value_name = "STORE", default_value = "sqlite", hide_env_values = true)]
    store: BenchStore,
    /// Number of the worker's connections that take leases
    #[arg(long, value_name = "N", default_value_t = phases::DEFAULT_WORKER.takers as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    takers: u64,
    /// Number of the worker's connections that report ends
    #[arg(long, value_name = "N", default_value_t = phases::DEFAULT_WORKER.reporters as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    reporters: u64,
    /// Most leases in one request of the worker
    #[arg(long = "take", value_name = "N", default_value_t = phases::DEFAULT_WORKER.leases_per_take as u64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    leases_per_take: u64,
    /// Number of threads of the load. The load and the server share the cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
    /// Whether the command line has the flag `--server`. The server in the variable `TASKBELL_SERVER` and the default
    /// server never get the load.
    #[arg(skip)]
    pub(super) server_is_named: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Phase {
    /// Create tasks one by one, on 1 and on 32 connections
    Create,
    /// Create tasks in batches of 100 and of 1000
    Batch,
    /// Execute all queued tasks with one worker
    Drain,
    /// Time from the create to the start of the handler, on an idle server
    Latency,
    /// Producers and a worker at the same time. This phase opens no websocket
    Live,
    /// Time from the request of a cancel until the worker receives it
    Cancel,
    /// Time to take a lease while few and while many tasks are queued
    Pending,
    /// Create and read tasks while many websockets are open. A named server must allow that many of one subject and address
    Sockets,
}

/// The phases of a run, and the amount of work in each phase.
#[derive(Clone, Debug)]
struct BenchPlan {
    phases: Vec<Phase>,
    /// The number of tasks that the drain phase starts with.
    backlog: u64,
    /// The longest time of each measurement in the phases create and batch.
    produce_for: Duration,
    /// The time for which producers create tasks in the live phase.
    live_for: Duration,
    /// The number of tasks in each measurement of the batch phase.
    batched_tasks: u64,
    /// The number of timed tasks in the latency phase.
    latency_tasks: u64,
    /// The average time between two creates in the latency phase.
    latency_gap: Duration,
    /// The pause before the latency phase. The pause before the live phase is half as long.
    phase_pause: Duration,
    /// The number of cancels in the cancel phase.
    cancels: u64,
    /// The sizes of the backlogs in the pending phase.
    pending_sizes: Vec<u64>,
    /// The number of leases in each measurement of the pending phase.
    timed_leases: u64,
    /// The number of websockets in the sockets phase.
    sockets: usize,
    /// The number of changes for idle websockets in the sockets phase.
    idle_changes: u32,
    worker: WorkerConnections,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), CommandError> {
        let threads = usize::try_from(self.threads).unwrap_or(1);
        let mut runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.worker_threads(threads).enable_all().build();
        let runtime =
            runtime.map_err(|error| CommandError::failed(format!("the runtime can't be created: {error}")))?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            // When a signal arrives, the future of `measure` is dropped. This ends the server's process and removes its
            // folder.
            tokio::select! {
                result = self.measure() => result,
                _ = tokio::signal::ctrl_c() => Err(CommandError::failed("interrupted")),
                _ = terminate.recv() => Err(CommandError::failed("interrupted")),
            }
        })
    }

    /// Runs all phases as often as `--runs` says, and prints the figures.
    async fn measure(&self) -> Result<(), CommandError> {
        let plan = self.plan();
        let named = if self.server_is_named { Some(self.named_server()?) } else { None };
        let mut figures = Figures::default();
        let mut checked = 0;
        for run in 1..=self.runs {
            if self.runs > 1 {
                console::print_to_stderr(&format!("run {run} of {}", self.runs));
            }
            checked += match (&self.store, &named) {
                (BenchStore::Cluster(url), None) => cluster::compare_with_embedded(url, &plan, &mut figures).await?,
                (_, named) => self.run_once(named.as_ref(), &plan, &mut figures).await?,
            };
        }
        add_pending_ratios(&plan, &mut figures);
        self.print(&plan, &figures, checked)
    }

    /// Runs all phases once. Returns the number of tasks that were checked in the log.
    async fn run_once(
        &self,
        named: Option<&ServerAddress>,
        plan: &BenchPlan,
        figures: &mut Figures,
    ) -> Result<u64, CommandError> {
        let mut checked = 0;
        if plan.phases.iter().any(|phase| *phase != Phase::Pending) {
            let mut server = self.open_server(named).await?;
            let result = run_shared_phases(&server, plan, figures).await;
            checked = match result {
                Ok(tasks) => tasks,
                Err(failure) => return Err(server.explain_failure(failure).await),
            };
            server.stop().await;
        }
        if plan.phases.contains(&Phase::Pending) {
            for size in &plan.pending_sizes {
                let mut server = self.open_server(named).await?;
                let scope = new_scope(&server);
                if let Err(failure) = pending::run(&server, &scope, *size, plan, figures).await {
                    return Err(server.explain_failure(failure).await);
                }
                server.stop().await;
            }
        }
        Ok(checked)
    }

    /// The named server, or a new one.
    async fn open_server(&self, named: Option<&ServerAddress>) -> Result<Server, CommandError> {
        match named {
            Some(address) => Ok(Server::named(address.clone())),
            None => Server::start(&self.store).await,
        }
    }

    /// The server that the command line names.
    fn named_server(&self) -> Result<ServerAddress, CommandError> {
        let (token, ca_file) = (self.connection.token()?, self.connection.ca_file.as_deref());
        let client = Client::new(&self.connection.server, token.as_ref().map(Secret::reveal), ca_file)?;
        if client.url().scheme() == "https" {
            return Err(CommandError::usage("--server: bench measures servers without TLS only"));
        }
        ServerAddress::new(client.server(), token.as_ref().map(Secret::reveal))
    }

    fn plan(&self) -> BenchPlan {
        use Phase::{Batch, Cancel, Create, Drain, Latency, Live, Pending};
        let all = vec![Create, Batch, Drain, Latency, Live, Cancel, Pending];
        let phases = if self.phase.is_empty() { all } else { self.phase.clone() };
        let to_usize = |number: u64| usize::try_from(number).unwrap_or(1);
        let worker = WorkerConnections {
            takers: to_usize(self.takers),
            leases_per_take: to_usize(self.leases_per_take),
            reporters: to_usize(self.reporters),
        };
        let pending = |sizes: &[u64]| self.pending.clone().unwrap_or_else(|| sizes.to_vec());
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        if self.quick {
            return BenchPlan {
                phases,
                backlog: self.backlog.unwrap_or(1000),
                produce_for: ms(300),
                live_for: ms(300),
                batched_tasks: 2000,
                latency_tasks: 20,
                latency_gap: ms(5),
                phase_pause: ms(20),
                cancels: 20,
                pending_sizes: pending(&[100, 2000]),
                timed_leases: 100,
                sockets: to_usize(self.sockets.unwrap_or(20)),
                idle_changes: 2,
                worker,
            };
        }
        BenchPlan {
            phases,
            backlog: self.backlog.unwrap_or(100_000),
            produce_for: s(3),
            live_for: s(4),
            batched_tasks: 20_000,
            latency_tasks: 500,
            latency_gap: ms(20),
            phase_pause: s(2),
            cancels: 500,
            pending_sizes: pending(&[1000, 1_000_000]),
            timed_leases: 2000,
            sockets: to_usize(self.sockets.unwrap_or(2000)),
            idle_changes: 20,
            worker,
        }
    }

    fn print(&self, plan: &BenchPlan, figures: &Figures, checked: u64) -> Result<(), CommandError> {
        let durability = if self.server_is_named { "unknown" } else { self.store.durability() };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let WorkerConnections { takers, leases_per_take, reporters } = plan.worker;
        if self.connection.json {
            let report = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "server": if self.server_is_named { &self.connection.server } else { "own" },
                "durability": durability,
                "cores": cores,
                "input_bytes": INPUT_BYTES,
                "runs": self.runs,
                "quick": self.quick,
                "worker": {"takers": takers, "take": leases_per_take, "reporters": reporters, "threads": self.threads},
                "tasks_checked": checked,
                "figures": figures.json(),
            });
            return console::print_json(&report.to_string());
        }
        let runs = if self.runs > 1 { format!(", medians of {} runs [min – max]", self.runs) } else { String::new() };
        console::print_line(&format!(
            "durability: {durability}\nserver and load share {cores} cores; {INPUT_BYTES} bytes of input{runs}\n"
        ))?;
        console::print_line(&figures.table())?;
        if checked > 0 {
            let checked = console::format_count(checked);
            console::print_line(&format!(
                "checked: the log contains all {checked} acknowledged tasks, and none ended twice"
            ))?;
        }
        Ok(())
    }
}

/// A new scope for one run on this server: a kind that no other task has and, on a named server, such an owner too.
fn new_scope(server: &Server) -> RunScope {
    let id = Uuid::new_v4().simple().to_string();
    let name = format!("bench-{}", &id[..8]);
    RunScope {
        server: server.address.clone(),
        other_servers: Vec::new(),
        owner: (!server.was_started_here()).then(|| name.clone()),
        kind: name,
        clock_origin: Instant::now(),
        created_count: Arc::new(AtomicU64::new(0)),
    }
}

/// Runs all phases except pending on one server, and checks the log. Returns the number of tasks that were checked.
async fn run_shared_phases(server: &Server, plan: &BenchPlan, figures: &mut Figures) -> Result<u64, CommandError> {
    let scope = new_scope(server);
    let after = check::head_position(&mut LoadConnection::open(&scope.server).await?).await?;
    if plan.phases.contains(&Phase::Sockets) {
        sockets::run(server, &scope, plan, figures).await?;
    }
    let mut runner = PhaseRunner::new(server, scope.clone(), plan, figures);
    let drained = runner.run().await?;
    let cancelled = if plan.phases.contains(&Phase::Cancel) { cancel::run(&scope, plan, figures).await? } else { 0 };
    check::verify(&scope, after, drained, cancelled).await
}

/// Adds the time of a lease with the largest backlog, divided by the time with the smallest backlog.
fn add_pending_ratios(plan: &BenchPlan, figures: &mut Figures) {
    let (Some(least), Some(most)) = (plan.pending_sizes.iter().min(), plan.pending_sizes.iter().max()) else { return };
    for (name, description) in [("lease_p50_us", "one per request"), ("lease_of_100_p50_us", "100 per request")] {
        let median = |size: &u64| figures.median(&format!("pending_{size}_{name}"));
        if let (Some(few), Some(many)) = (median(least), median(most)) {
            let (most, least) = (console::format_count(*most), console::format_count(*least));
            let label = format!("time of a lease, {most} / {least} pending, {description}");
            figures.add(&format!("pending_ratio_{name}"), &label, many / few);
        }
    }
}
