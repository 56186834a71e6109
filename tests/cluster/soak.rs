//! A long random test: three servers behind proxies share one database, workers and clients use random servers, and
//! faults of every kind are injected. Every task must end once, no two workers may hold a lease of a task at the same
//! time, each run of a schedule must exist once, and all servers must show the same log.
//!
//! `TASKBELL_FULL=1` runs it at full size: `cargo test --test taskbell cluster::soak -- --nocapture`. `TASKBELL_TASKS` sets
//! another number of tasks. `TASKBELL_SEED` repeats the random choices of a run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinHandle;

use super::leases::schedules_of_an_hour_ago;
use super::*;
use crate::proxy::{Mode, Proxy};
use crate::support::signal;

mod checks;
mod clients;
mod record;
mod server_pool;
mod worker;

use clients::Client;
use record::Record;
use server_pool::ServerPool;
use worker::Worker;

/// The size of a run.
struct Size {
    tasks: usize,
    workers: usize,
    /// The most leases that a worker holds at the same time.
    leases_at_once: usize,
    clients: usize,
    cancels: usize,
    schedules: usize,
    faults: usize,
    /// The longest time for which a server is cut off or suspended. After 13 s without a renewal, other servers end its
    /// leases.
    silence_ms: u64,
}

const SAMPLE: Size = Size {
    tasks: 600,
    workers: 6,
    leases_at_once: 10,
    clients: 3,
    cancels: 20,
    schedules: 3,
    faults: 9,
    silence_ms: 6000,
};
const FULL: Size = Size {
    tasks: 20_000,
    workers: 20,
    leases_at_once: 20,
    clients: 6,
    cancels: 500,
    schedules: 20,
    faults: 80,
    silence_ms: 20_000,
};

/// The shortest leases that a cluster allows, and a ladder so short that workers that ignore a cancel lose their leases.
const SERVER_ARGS: [&str; 6] = [
    "--kind",
    "soak.plain:lease_s=3",
    "--kind",
    "soak.ladder:lease_s=3,ask_for_s=0.5,interrupt_for_s=0.5",
    "--kind",
    "tick:lease_s=3",
];

/// The test fails if no attempt ends for this long.
const STALL_TIMEOUT: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A server is killed and started again.
    KillServer,
    /// A worker disappears without returning its leases, and another one starts.
    KillWorker,
    /// The database is stopped and started again.
    StopDatabase,
    /// Connections are cut after the database has written the events and before it has sent the responses.
    CutBeforeResponses,
    /// One server's connections to the database are cut.
    Cut,
    /// The messages between one server and the database are delayed.
    Delay,
    /// Everything that one server sends to the database arrives twice.
    Duplicate,
    /// One server stays connected to the database, but no message arrives on either side.
    BlackHole,
    /// A server process is suspended and continued.
    Suspend,
}

/// The first faults of a run, in this order. A small run has all but the last; a full run continues with random ones.
const FAULTS: [Fault; 10] = [
    Fault::Delay,
    Fault::CutBeforeResponses,
    Fault::KillServer,
    Fault::Duplicate,
    Fault::KillWorker,
    Fault::StopDatabase,
    Fault::BlackHole,
    Fault::Cut,
    Fault::KillServer,
    Fault::Suspend,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_and_database_fail_in_every_way_and_every_task_ends_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let mut size = if std::env::var_os("TASKBELL_FULL").is_some() { FULL } else { SAMPLE };
    size.tasks = number("TASKBELL_TASKS").map_or(size.tasks, |tasks| usize::try_from(tasks).unwrap());
    let seed = number("TASKBELL_SEED").unwrap_or_else(rand::random);
    println!("TASKBELL_SEED={seed}");
    let begun = Instant::now();
    let mut soak = Soak::start(size, seed).await;
    let clients = soak.start_clients();
    let faults = soak.inject_faults().await;
    for client in clients {
        tokio::time::timeout(STALL_TIMEOUT, client).await.expect("the clients end").unwrap();
    }
    soak.end_all_tasks().await;
    let took = begun.elapsed();
    soak.check().await;
    println!("{} tasks, faults {faults:?}, {:.1} s", soak.size.tasks, took.as_secs_f64());
}

struct Soak {
    size: Size,
    seed: u64,
    random: StdRng,
    cluster: Cluster,
    proxies: Vec<Proxy>,
    servers: Vec<Server>,
    server_pool: ServerPool,
    record: Arc<Record>,
    workers: Vec<JoinHandle<()>>,
    started_workers: u64,
}

impl Soak {
    async fn start(size: Size, seed: u64) -> Self {
        let cluster = Cluster::start().await;
        schedules_of_an_hour_ago(&cluster, size.schedules).await;
        let (mut proxies, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let proxy = Proxy::start(cluster.addr()).await;
            servers.push(Server::on_cluster(&url(proxy.addr(), "taskbell"), SERVER_ARGS));
            proxies.push(proxy);
        }
        let server_pool = ServerPool::new(std::array::from_fn(|n| servers[n].url()));
        let random = StdRng::seed_from_u64(seed);
        let (workers, record) = (Vec::new(), Arc::default());
        let mut soak =
            Self { size, seed, random, cluster, proxies, servers, server_pool, record, workers, started_workers: 0 };
        soak.workers = (0..soak.size.workers).map(|_| soak.start_worker()).collect();
        soak
    }

    fn start_worker(&mut self) -> JoinHandle<()> {
        self.started_workers += 1;
        let worker = Worker {
            name: format!("w{}", self.started_workers),
            servers: self.server_pool.clone(),
            random: StdRng::seed_from_u64(self.seed ^ self.started_workers),
            record: Arc::clone(&self.record),
            leases_at_once: self.size.leases_at_once,
            held: std::collections::HashMap::new(),
        };
        tokio::spawn(worker.run())
    }

    /// Starts the clients that create tasks, and the same number of clients that cancel and retry them.
    fn start_clients(&self) -> Vec<JoinHandle<()>> {
        let client = |n: u64| Client {
            servers: self.server_pool.clone(),
            random: StdRng::seed_from_u64(self.seed ^ ((n + 1) << 32)),
            record: Arc::clone(&self.record),
        };
        let share = self.size.tasks / self.size.clients;
        let cancels = self.size.cancels.div_ceil(self.size.clients);
        let mut clients = Vec::new();
        for n in 0..self.size.clients {
            clients.push(tokio::spawn(client(2 * n as u64).create(n * share..(n + 1) * share)));
            clients.push(tokio::spawn(client(2 * n as u64 + 1).cancel_and_retry(cancels)));
        }
        clients
    }

    /// Injects the faults, evenly distributed over the ends of attempts. Returns how often each fault was injected.
    async fn inject_faults(&mut self) -> std::collections::BTreeMap<Fault, usize> {
        let (mut counts, begun) = (std::collections::BTreeMap::new(), Instant::now());
        let mut ended = self.record.ended.subscribe();
        for n in 0..self.size.faults {
            let fault = FAULTS.get(n).copied().unwrap_or_else(|| FAULTS.into_iter().choose(&mut self.random).unwrap());
            let at = self.size.tasks * (n + 1) / (self.size.faults + 2);
            let reached = tokio::time::timeout(STALL_TIMEOUT, ended.wait_for(|ended| *ended >= at)).await.map(drop);
            assert!(reached.is_ok(), "no attempt ends any more after {counts:?}");
            println!("{fault:?} after {at} ends and {:.1} s", begun.elapsed().as_secs_f64());
            self.inject(fault).await;
            *counts.entry(fault).or_default() += 1;
        }
        counts
    }

    /// Injects one fault and waits until it is over.
    async fn inject(&mut self, fault: Fault) {
        let server_index = self.random.random_range(0..3);
        match fault {
            Fault::KillServer => {
                self.servers[server_index].kill9();
                self.wait_at_most(1500).await;
                self.servers[server_index].restart();
            }
            Fault::KillWorker => {
                let index = self.random.random_range(0..self.workers.len());
                self.workers[index].abort();
                self.workers[index] = self.start_worker();
            }
            Fault::StopDatabase => {
                self.cluster.stop().await;
                self.wait_at_most(4000).await;
                self.cluster.restart().await;
            }
            Fault::CutBeforeResponses => {
                self.cluster.database.hold_responses(true);
                self.wait_at_most(300).await;
                for proxy in &self.proxies {
                    proxy.cut();
                }
                self.cluster.database.hold_responses(false);
            }
            Fault::Cut => self.proxies[server_index].cut(),
            Fault::Delay => self.set_mode_for_a_while(server_index, Mode::Delay(Duration::from_millis(20)), 3000).await,
            Fault::Duplicate => {
                self.proxies[server_index].set_mode(Mode::Duplicate);
                self.proxies[server_index].cut();
                self.wait_at_most(3000).await;
                self.proxies[server_index].set_mode(Mode::Pass);
                self.proxies[server_index].cut();
            }
            Fault::BlackHole => self.set_mode_for_a_while(server_index, Mode::BlackHole, self.size.silence_ms).await,
            Fault::Suspend => {
                signal(self.servers[server_index].pid(), "STOP");
                self.wait_at_most(self.size.silence_ms).await;
                signal(self.servers[server_index].pid(), "CONT");
            }
        }
    }

    async fn set_mode_for_a_while(&mut self, index: usize, mode: Mode, at_most_ms: u64) {
        self.proxies[index].set_mode(mode);
        self.wait_at_most(at_most_ms).await;
        self.proxies[index].set_mode(Mode::Pass);
    }

    /// Sleeps for a random time, during which a fault lasts.
    async fn wait_at_most(&mut self, at_most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..at_most_ms))).await;
    }

    /// Removes the schedules and waits until every task has ended.
    async fn end_all_tasks(&mut self) {
        println!("{} ends, and no more faults", *self.record.ended.borrow());
        join_all(self.servers.iter().map(wait_until_fresh)).await;
        let server = &self.servers[0];
        let schedules = server.get("/v1/schedules").await.body;
        for schedule in schedules["items"].as_array().unwrap() {
            let path = format!("{}/v1/schedules/{}", server.url(), schedule["id"].as_str().unwrap());
            let removed = server.send(server.client().delete(path)).await;
            assert_eq!(removed.status, 204, "{}", removed.text);
        }
        let ended = tokio::time::timeout(STALL_TIMEOUT, wait_until_all_ended(server)).await;
        assert!(ended.is_ok(), "tasks are left: {}", server.get("/v1/counters").await.text);
        for worker in self.workers.drain(..) {
            worker.abort();
        }
    }

    /// Compares the logs, the views and the recorded responses.
    async fn check(&self) {
        let position = self.cluster.event_count();
        let all_counters = join_all(self.servers.iter().map(|server| counters(server, position))).await;
        let mut logs = Vec::new();
        for server in &self.servers {
            logs.push(server.get("/v1/log").await);
        }
        self.record.with(|account| {
            assert_eq!(account.violations, [""; 0]);
            let checker = checks::check(&logs[0].text, account);
            assert_eq!(checker.events, position);
            for counters in &all_counters {
                checks::check_counts(&checker, checks::counts_at(counters, position));
            }
            for log in &logs[1..] {
                assert!(log.text == logs[0].text, "the servers show different logs");
            }
            println!("{position} events of {} tasks, {} leases", checker.tasks.len(), account.held_leases.len());
            println!("{} ends of attempts, {} turned", account.ends.len(), account.changed_tasks.len());
            println!("{} counters while it ran, {} unknown", account.counters.len(), account.unknown.len());
            for (what, count) in &checker.event_counts {
                println!("{count:>8}  {what}");
            }
        });
        for server in &self.servers {
            let ready = server.get("/readyz").await;
            assert_eq!(ready.status, 200, "{}", ready.text);
            let head = server.get("/v1/log/head").await.body;
            assert_eq!(head["position"], position);
        }
    }
}

/// Waits until every task is final in the server's counters.
async fn wait_until_all_ended(server: &Server) {
    let is_final = |status: &str| matches!(status, "succeeded" | "failed" | "cancelled");
    let mut live = LiveSocket::open(server).await;
    loop {
        let frame = live.next().await;
        let Some(counts) = frame["counts"].as_object() else { continue };
        if counts.iter().all(|(status, count)| is_final(status) || *count == 0) {
            return;
        }
    }
}
