//! Three servers over one database behind proxies, workers and clients at random servers, and faults of every kind: every task
//! ends once, no lease is held twice at one time, each run of a schedule exists once, and all servers show the same.
//!
//! `TASKBELL_FULL=1` runs it at full size: `cargo test --test taskbell cluster::soak -- --nocapture`; `TASKBELL_TASKS` sets
//! another number of tasks, and `TASKBELL_SEED` repeats the choices of a run.

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
mod net;
mod record;
mod worker;

use clients::Client;
use net::Net;
use record::Record;
use worker::Worker;

/// The size of a run.
struct Size {
    tasks: usize,
    workers: usize,
    /// Leases that a worker holds at once.
    at_once: usize,
    clients: usize,
    cancels: usize,
    schedules: usize,
    faults: usize,
    /// How long a server is cut off or suspended at most. Other servers take a lease that no server renews after 13 s.
    silence_ms: u64,
}

const SAMPLE: Size =
    Size { tasks: 600, workers: 6, at_once: 10, clients: 3, cancels: 20, schedules: 3, faults: 9, silence_ms: 6000 };
const FULL: Size = Size {
    tasks: 20_000,
    workers: 20,
    at_once: 20,
    clients: 6,
    cancels: 500,
    schedules: 20,
    faults: 80,
    silence_ms: 20_000,
};

/// Leases live as long as a cluster's shortest ones; the ladder is short enough for workers that ignore a cancel to lose
/// their leases.
const ARGS: [&str; 6] = [
    "--kind",
    "soak.plain:lease_s=3",
    "--kind",
    "soak.ladder:lease_s=3,ask_for_s=0.5,interrupt_for_s=0.5",
    "--kind",
    "tick:lease_s=3",
];

/// Without one more end for so long, the run is stuck.
const STUCK: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// A server is killed, and starts again.
    KillServer,
    /// A worker is gone with its leases; another one starts.
    KillWorker,
    /// The database stops, and starts again.
    StopDatabase,
    /// Connections are cut after the database has written what they sent, and before it has answered.
    CutBeforeAnswers,
    /// One server's connections to the database are cut.
    Cut,
    /// What one server sends to the database, and receives, is late.
    Delay,
    /// One server sends everything twice.
    Duplicate,
    /// One server is connected to the database, but nothing arrives.
    BlackHole,
    /// A server stands still, and goes on.
    Suspend,
}

/// Each kind of fault. A small run has all but the last, in this order.
const FAULTS: [Fault; 10] = [
    Fault::Delay,
    Fault::CutBeforeAnswers,
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
        tokio::time::timeout(STUCK, client).await.expect("the clients end").unwrap();
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
    net: Net,
    record: Arc<Record>,
    workers: Vec<JoinHandle<()>>,
    workers_so_far: u64,
}

impl Soak {
    async fn start(size: Size, seed: u64) -> Self {
        let cluster = Cluster::start().await;
        schedules_of_an_hour_ago(&cluster, size.schedules).await;
        let (mut proxies, mut servers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let proxy = Proxy::start(cluster.addr()).await;
            servers.push(Server::on_cluster(&url(proxy.addr(), "taskbell"), ARGS));
            proxies.push(proxy);
        }
        let net = Net::new(std::array::from_fn(|n| servers[n].url()));
        let random = StdRng::seed_from_u64(seed);
        let (workers, record) = (Vec::new(), Arc::default());
        let mut soak = Self { size, seed, random, cluster, proxies, servers, net, record, workers, workers_so_far: 0 };
        soak.workers = (0..soak.size.workers).map(|_| soak.start_worker()).collect();
        soak
    }

    fn start_worker(&mut self) -> JoinHandle<()> {
        self.workers_so_far += 1;
        let worker = Worker {
            name: format!("w{}", self.workers_so_far),
            net: self.net.clone(),
            random: StdRng::seed_from_u64(self.seed ^ self.workers_so_far),
            record: Arc::clone(&self.record),
            at_once: self.size.at_once,
            held: std::collections::HashMap::new(),
        };
        tokio::spawn(worker.run())
    }

    /// Those that create tasks, and as many that cancel and retry them.
    fn start_clients(&self) -> Vec<JoinHandle<()>> {
        let client = |n: u64| Client {
            net: self.net.clone(),
            random: StdRng::seed_from_u64(self.seed ^ ((n + 1) << 32)),
            record: Arc::clone(&self.record),
        };
        let share = self.size.tasks / self.size.clients;
        let cancels = self.size.cancels.div_ceil(self.size.clients);
        let mut clients = Vec::new();
        for n in 0..self.size.clients {
            clients.push(tokio::spawn(client(2 * n as u64).create(n * share..(n + 1) * share)));
            clients.push(tokio::spawn(client(2 * n as u64 + 1).turn(cancels)));
        }
        clients
    }

    /// Injects the faults as attempts end. Returns how often each occurred.
    async fn inject_faults(&mut self) -> std::collections::BTreeMap<Fault, usize> {
        let (mut so_far, begun) = (std::collections::BTreeMap::new(), Instant::now());
        let mut ended = self.record.ended.subscribe();
        for n in 0..self.size.faults {
            let fault = FAULTS.get(n).copied().unwrap_or_else(|| FAULTS.into_iter().choose(&mut self.random).unwrap());
            let at = self.size.tasks * (n + 1) / (self.size.faults + 2);
            let reached = tokio::time::timeout(STUCK, ended.wait_for(|ended| *ended >= at)).await.map(drop);
            assert!(reached.is_ok(), "nothing ends any more after {so_far:?}");
            println!("{fault:?} after {at} ends and {:.1} s", begun.elapsed().as_secs_f64());
            self.inject(fault).await;
            *so_far.entry(fault).or_default() += 1;
        }
        so_far
    }

    async fn inject(&mut self, fault: Fault) {
        let any = self.random.random_range(0..3);
        match fault {
            Fault::KillServer => {
                self.servers[any].kill9();
                self.wait_at_most(1500).await;
                self.servers[any].restart();
            }
            Fault::KillWorker => {
                let place = self.random.random_range(0..self.workers.len());
                self.workers[place].abort();
                self.workers[place] = self.start_worker();
            }
            Fault::StopDatabase => {
                self.cluster.stop().await;
                self.wait_at_most(4000).await;
                self.cluster.restart().await;
            }
            Fault::CutBeforeAnswers => {
                self.cluster.database.hold_answers(true);
                self.wait_at_most(300).await;
                for proxy in &self.proxies {
                    proxy.cut();
                }
                self.cluster.database.hold_answers(false);
            }
            Fault::Cut => self.proxies[any].cut(),
            Fault::Delay => self.set_for_a_while(any, Mode::Delay(Duration::from_millis(20)), 3000).await,
            Fault::Duplicate => {
                self.proxies[any].set(Mode::Duplicate);
                self.proxies[any].cut();
                self.wait_at_most(3000).await;
                self.proxies[any].set(Mode::Pass);
                self.proxies[any].cut();
            }
            Fault::BlackHole => self.set_for_a_while(any, Mode::BlackHole, self.size.silence_ms).await,
            Fault::Suspend => {
                signal(self.servers[any].pid(), "STOP");
                self.wait_at_most(self.size.silence_ms).await;
                signal(self.servers[any].pid(), "CONT");
            }
        }
    }

    async fn set_for_a_while(&mut self, place: usize, mode: Mode, at_most_ms: u64) {
        self.proxies[place].set(mode);
        self.wait_at_most(at_most_ms).await;
        self.proxies[place].set(Mode::Pass);
    }

    /// Sleeps for a random time, which is how long a fault lasts.
    async fn wait_at_most(&mut self, at_most_ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..at_most_ms))).await;
    }

    /// Ends the schedules, and waits until every task has ended.
    async fn end_all_tasks(&mut self) {
        println!("{} ends, and no more faults", *self.record.ended.borrow());
        join_all(self.servers.iter().map(fresh)).await;
        let server = &self.servers[0];
        let schedules = server.get("/v1/schedules").await.body;
        for schedule in schedules["items"].as_array().unwrap() {
            let path = format!("{}/v1/schedules/{}", server.url(), schedule["id"].as_str().unwrap());
            let removed = server.send(server.client().delete(path)).await;
            assert_eq!(removed.status, 204, "{}", removed.text);
        }
        let rest = tokio::time::timeout(STUCK, at_rest(server)).await;
        assert!(rest.is_ok(), "tasks are left: {}", server.get("/v1/counters").await.text);
        for worker in self.workers.drain(..) {
            worker.abort();
        }
    }

    async fn check(&self) {
        let position = self.cluster.events();
        let answers = join_all(self.servers.iter().map(|server| counters(server, position))).await;
        let mut logs = Vec::new();
        for server in &self.servers {
            logs.push(server.get("/v1/log").await);
        }
        self.record.with(|account| {
            assert_eq!(account.violations, [""; 0]);
            let checker = checks::check(&logs[0].text, account);
            assert_eq!(checker.events, position);
            for answer in &answers {
                checks::check_counts(&checker, checks::counts_at(answer, position));
            }
            for log in &logs[1..] {
                assert!(log.text == logs[0].text, "the servers show different logs");
            }
            println!("{position} events of {} tasks, {} leases", checker.tasks.len(), account.holds.len());
            println!("{} ends of attempts, {} turned", account.ends.len(), account.turned.len());
            println!("{} counters while it ran, {} unknown", account.counters.len(), account.unknown.len());
            for (what, count) in &checker.figures {
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

/// Waits until the server shows every task as ended.
async fn at_rest(server: &Server) {
    let is_over = |status: &str| matches!(status, "succeeded" | "failed" | "cancelled");
    let mut live = Live::open(server).await;
    loop {
        let frame = live.next().await;
        let Some(counts) = frame["counts"].as_object() else { continue };
        if counts.iter().all(|(status, count)| is_over(status) || *count == 0) {
            return;
        }
    }
}
