//! `taskbell bench`: sends a load to a server that it starts or that `--server` names, and prints figures.
//!
//! The phases are those by which job queues are compared: tasks that do nothing, each with 200 bytes of input. A task
//! counts when the server has acknowledged it. Any refusal ends the run. At the end the counters and the log must show that
//! every acknowledged task ended once.

mod cancel;
mod check;
mod figures;
mod load;
mod pending;
mod phases;
mod place;
mod server;
mod servers;
mod wire;
mod worker;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::client::{Client, Connect};
use super::failure::Failure;
use super::out;
use figures::Figures;
use load::{INPUT, Scope};
use phases::Run;
use place::LogPlace;
use server::Server;
use wire::{ServerAddress, Wire};
use worker::WorkerShape;

/// Measures a server.
#[derive(Debug, Args)]
pub struct Bench {
    /// Only these, separated by commas [default: all]
    #[arg(long, value_enum, value_name = "PHASE,…", value_delimiter = ',')]
    phase: Vec<Phase>,
    /// The backlog that is drained, in tasks [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    n: Option<u64>,
    /// Do it all so often, each time on a fresh server, and show medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// A few seconds and small numbers: shows that it works, not how fast
    #[arg(long)]
    quick: bool,
    /// How many tasks wait while leases are timed [default: 1000,1000000]
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1..))]
    pending: Option<Vec<u64>>,
    /// Where the server that it starts keeps its log: sqlite, memory, or the address of a cluster. For a cluster it
    /// compares the live phase on the embedded log, on one server and on two servers over the cluster
    #[arg(long, env = "TASKBELL_BENCH_STORE", value_name = "STORE", default_value = "sqlite", hide_env_values = true)]
    store: LogPlace,
    /// The worker's connections that take leases
    #[arg(long, value_name = "N", default_value_t = phases::WORKER.takers as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    takers: u64,
    /// The worker's connections that report ends
    #[arg(long, value_name = "N", default_value_t = phases::WORKER.reporters as u64, value_parser = clap::value_parser!(u64).range(1..=64))]
    reporters: u64,
    /// Leases that the worker takes at once
    #[arg(long, value_name = "N", default_value_t = phases::WORKER.max as u64, value_parser = clap::value_parser!(u64).range(1..=1000))]
    take: u64,
    /// Threads of the load; the server has the other cores
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=64))]
    threads: u64,
    #[arg(skip)]
    pub(super) connect: Connect,
    /// Whether the command line names a server. A server in a variable, or the default one, never gets the load.
    #[arg(skip)]
    pub(super) given: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Phase {
    /// Create one by one, from 1 and from 32 connections
    Create,
    /// Create in batches of 100 and of 1000
    Batch,
    /// Drain the backlog with a worker
    Drain,
    /// From create to the start of the handler, idle
    Latency,
    /// Producers and a worker together
    Live,
    /// From a cancel to the worker that waits for news
    Cancel,
    /// Leases while few and while many tasks wait
    Pending,
}

/// The phases, and the amount of work in each.
#[derive(Clone, Debug)]
struct Plan {
    phases: Vec<Phase>,
    n: u64,
    produce_for: Duration,
    live_for: Duration,
    batched: u64,
    singles: u64,
    gap: Duration,
    pause: Duration,
    cancels: u64,
    pending: Vec<u64>,
    leases: u64,
    worker: WorkerShape,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), Failure> {
        let threads = usize::try_from(self.threads).unwrap_or(1);
        let mut runtime = match threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime.worker_threads(threads).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
        runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate())?;
            // The branch that loses is dropped, and with it the server's process and its folder.
            tokio::select! {
                done = self.measure() => done,
                _ = tokio::signal::ctrl_c() => Err(Failure::failed("interrupted")),
                _ = terminate.recv() => Err(Failure::failed("interrupted")),
            }
        })
    }

    async fn measure(&self) -> Result<(), Failure> {
        let plan = self.plan();
        let given = if self.given { Some(self.given_server()?) } else { None };
        let mut figures = Figures::default();
        let mut checked = 0;
        for run in 1..=self.runs {
            if self.runs > 1 {
                out::note(&format!("run {run} of {}", self.runs));
            }
            checked += match (&self.store, &given) {
                (LogPlace::Shared(url), None) => servers::compare(url, &plan, &mut figures).await?,
                (_, given) => self.once(given.as_ref(), &plan, &mut figures).await?,
            };
        }
        compare(&plan, &mut figures);
        self.print(&plan, &figures, checked)
    }

    /// One run of all phases; the number of tasks that were checked in the log.
    async fn once(&self, given: Option<&ServerAddress>, plan: &Plan, figures: &mut Figures) -> Result<u64, Failure> {
        let mut checked = 0;
        if plan.phases.iter().any(|phase| *phase != Phase::Pending) {
            let mut server = self.server(given).await?;
            let measured = main_run(&server, plan, figures).await;
            checked = match measured {
                Ok(tasks) => tasks,
                Err(failure) => return Err(server.explain(failure).await),
            };
            server.stop().await;
        }
        if plan.phases.contains(&Phase::Pending) {
            for size in &plan.pending {
                let mut server = self.server(given).await?;
                let scope = scope(&server);
                if let Err(failure) = pending::run(&server, &scope, *size, plan, figures).await {
                    return Err(server.explain(failure).await);
                }
                server.stop().await;
            }
        }
        Ok(checked)
    }

    async fn server(&self, given: Option<&ServerAddress>) -> Result<Server, Failure> {
        match given {
            Some(address) => Ok(Server::given(address.clone())),
            None => Server::start(&self.store).await,
        }
    }

    fn given_server(&self) -> Result<ServerAddress, Failure> {
        let client = Client::new(&self.connect.server, self.connect.token.as_deref())?;
        ServerAddress::new(client.server(), self.connect.token.as_deref())
    }

    fn plan(&self) -> Plan {
        use Phase::{Batch, Cancel, Create, Drain, Latency, Live, Pending};
        let all = vec![Create, Batch, Drain, Latency, Live, Cancel, Pending];
        let phases = if self.phase.is_empty() { all } else { self.phase.clone() };
        let size = |number: u64| usize::try_from(number).unwrap_or(1);
        let worker = WorkerShape { takers: size(self.takers), max: size(self.take), reporters: size(self.reporters) };
        let pending = |sizes: &[u64]| self.pending.clone().unwrap_or_else(|| sizes.to_vec());
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        if self.quick {
            return Plan {
                phases,
                n: self.n.unwrap_or(1000),
                produce_for: ms(300),
                live_for: ms(300),
                batched: 2000,
                singles: 20,
                gap: ms(5),
                pause: ms(20),
                cancels: 20,
                pending: pending(&[100, 2000]),
                leases: 100,
                worker,
            };
        }
        Plan {
            phases,
            n: self.n.unwrap_or(100_000),
            produce_for: s(3),
            live_for: s(4),
            batched: 20_000,
            singles: 500,
            gap: ms(20),
            pause: s(2),
            cancels: 500,
            pending: pending(&[1000, 1_000_000]),
            leases: 2000,
            worker,
        }
    }

    fn print(&self, plan: &Plan, figures: &Figures, checked: u64) -> Result<(), Failure> {
        let durability = if self.given { "unknown" } else { self.store.durability() };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let WorkerShape { takers, max, reporters } = plan.worker;
        if self.connect.json {
            let all = json!({
                "version": env!("CARGO_PKG_VERSION"),
                "server": if self.given { &self.connect.server } else { "own" },
                "durability": durability,
                "cores": cores,
                "input_bytes": INPUT,
                "runs": self.runs,
                "quick": self.quick,
                "worker": {"takers": takers, "take": max, "reporters": reporters, "threads": self.threads},
                "tasks_checked": checked,
                "figures": figures.json(),
            });
            return out::json(&all.to_string());
        }
        let runs =
            if self.runs > 1 { format!(", medians of {} runs [least – most]", self.runs) } else { String::new() };
        out::line(&format!(
            "durability: {durability}\n{cores} cores, load and server on them; {INPUT} bytes of input{runs}\n"
        ))?;
        out::line(&figures.table())?;
        if checked > 0 {
            let checked = out::thousands(checked);
            out::line(&format!("checked: {checked} tasks were acknowledged, and in the log each ended once"))?;
        }
        Ok(())
    }
}

/// The scope of one run: a kind of its own, and an owner of its own on a server that others use too.
fn scope(server: &Server) -> Scope {
    let id = Uuid::new_v4().simple().to_string();
    let name = format!("bench-{}", &id[..8]);
    Scope {
        server: server.address.clone(),
        others: Vec::new(),
        owner: (!server.is_own()).then(|| name.clone()),
        kind: name,
        began: Instant::now(),
        created: Arc::new(AtomicU64::new(0)),
    }
}

/// Runs all phases that share a server, then the check; the number of tasks that were checked.
async fn main_run(server: &Server, plan: &Plan, figures: &mut Figures) -> Result<u64, Failure> {
    let scope = scope(server);
    let after = check::head(&mut Wire::open(&scope.server).await?).await?;
    let mut run = Run::new(server, scope.clone(), plan, figures);
    let drained = run.main().await?;
    let cancelled = if plan.phases.contains(&Phase::Cancel) { cancel::run(&scope, plan, figures).await? } else { 0 };
    check::verify(&scope, after, drained, cancelled).await
}

/// Keeps the ratio of a lease's time with the largest backlog to that with the smallest.
fn compare(plan: &Plan, figures: &mut Figures) {
    let (Some(least), Some(most)) = (plan.pending.iter().min(), plan.pending.iter().max()) else { return };
    for (name, what) in [("lease_p50_us", "one by one"), ("lease_of_100_p50_us", "in hundreds")] {
        let figure = |size: &u64| figures.median(&format!("pending_{size}_{name}"));
        if let (Some(few), Some(many)) = (figure(least), figure(most)) {
            let label = format!("a lease at {most} pending by one at {least}, {what}");
            figures.keep(&format!("pending_ratio_{name}"), &label, many / few);
        }
    }
}
