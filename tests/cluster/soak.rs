//! Servers are killed, the database goes away, connections are cut, delayed, repeated and black-holed, again and again: every
//! task ends once, no lease is held twice at one time, and each run of a schedule exists once.
//!
//! `TASKBELL_FULL=1` runs it at full size; `TASKBELL_SEED` repeats the choices of a run.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::sync::watch;

use super::leases::{fired, left, schedules_of_an_hour_ago};
use super::*;
use crate::proxy::{Mode, Proxy};

struct Size {
    tasks: usize,
    cancels: usize,
    workers: u64,
    schedules: usize,
    faults: usize,
}

const SAMPLE: Size = Size { tasks: 400, cancels: 40, workers: 6, schedules: 2, faults: 8 };
const FULL: Size = Size { tasks: 20_000, cancels: 500, workers: 20, schedules: 20, faults: 60 };

/// Without a change for so long, the run is stuck.
const STUCK: Duration = Duration::from_mins(2);

/// What all clients and workers share.
struct Clients {
    urls: Vec<String>,
    seed: u64,
    /// Until when the holder of each task may work.
    held: Mutex<HashMap<String, Instant>>,
    twice: Mutex<Vec<String>>,
    /// How many requests have changed something.
    changes: watch::Sender<usize>,
}

impl Clients {
    /// The answer of a random server; none where it gives none.
    async fn post(&self, client: &reqwest::Client, random: &mut StdRng, path: &str, body: &Value) -> Option<Value> {
        let url = format!("{}{path}", self.urls.choose(random)?);
        let answer = client.post(url).json(body).timeout(Duration::from_secs(20)).send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        let text = answer.text().await.ok()?;
        self.changes.send_modify(|changes| *changes += 1);
        serde_json::from_str(&text).ok()
    }

    /// Creates tasks and cancels some of them.
    async fn submit(&self, size: &Size) {
        let client = reqwest::Client::new();
        let mut random = StdRng::seed_from_u64(self.seed);
        let every = size.tasks / size.cancels;
        let mut created = 0;
        while created < size.tasks {
            let body = json!({"kind": "job", "max_attempts": 50});
            let Some(task) = self.post(&client, &mut random, "/v1/tasks", &body).await else { continue };
            created += 1;
            if created % every == 0 {
                let path = format!("/v1/tasks/{}/cancel", task["id"].as_str().unwrap());
                while self.post(&client, &mut random, &path, &json!({"reason": "a test"})).await.is_none() {
                    if self.is_final(&client, &mut random, &task).await {
                        break;
                    }
                }
            }
        }
    }

    async fn is_final(&self, client: &reqwest::Client, random: &mut StdRng, task: &Value) -> bool {
        let url = format!("{}/v1/tasks/{}", self.urls.choose(random).unwrap(), task["id"].as_str().unwrap());
        let Ok(answer) = client.get(url).timeout(Duration::from_secs(20)).send().await else { return false };
        answer.json().await.is_ok_and(|task: Value| crate::support::is_final(&task))
    }

    /// Takes leases and ends them: most at once, some after a few heartbeats, some never.
    async fn work(self: Arc<Self>, number: u64) {
        let client = reqwest::Client::new();
        let mut random = StdRng::seed_from_u64(self.seed ^ (number + 1));
        let worker = format!("w{number}");
        loop {
            let sent = Instant::now();
            let take = json!({"worker": worker, "kinds": ["job", "tick"], "max": 2, "wait_s": 1});
            let Some(taken) = self.post(&client, &mut random, "/v1/leases", &take).await else { continue };
            for lease in taken["leases"].as_array().unwrap_or(&Vec::new()) {
                self.execute(&client, &mut random, &worker, lease, sent).await;
            }
        }
    }

    async fn execute(&self, client: &reqwest::Client, random: &mut StdRng, worker: &str, lease: &Value, sent: Instant) {
        let task = lease["task_id"].as_str().unwrap();
        let former = self.hold(task, sent + left(lease));
        if former.is_some_and(|until| until > Instant::now()) {
            self.twice.lock().unwrap().push(format!("{task} attempt {}", lease["attempt"]));
        }
        if random.random_bool(0.01) {
            return;
        }
        let mut is_cancelled = false;
        let mut beats = if random.random_bool(0.1) { 5 } else { 0 };
        while beats > 0 {
            beats -= 1;
            let sent = Instant::now();
            let beat = json!({"worker": worker, "leases": [{"lease": lease["lease"]}], "wait_s": 0.5});
            if let Some(answer) = self.post(client, random, "/v1/leases/heartbeat", &beat).await {
                let directives = answer["directives"].to_string();
                if directives.contains("lost") {
                    return;
                }
                is_cancelled |= directives.contains("cancel");
                if answer["left_ms"].is_u64() {
                    self.hold(task, sent + left(&answer));
                }
            }
        }
        let outcome = if is_cancelled { "cancelled" } else { "succeeded" };
        let finish = json!({"items": [{"lease": lease["lease"], "outcome": outcome}]});
        while self.held.lock().unwrap()[task] > Instant::now() {
            let Some(finished) = self.post(client, random, "/v1/leases/finish", &finish).await else { continue };
            let item = &finished["items"][0];
            if item["problem"]["retryable"] != true {
                self.held.lock().unwrap().remove(task);
                return;
            }
        }
    }

    /// The worker of the task may work until then; until when its former one might.
    fn hold(&self, task: &str, until: Instant) -> Option<Instant> {
        let mut held = self.held.lock().unwrap();
        let former = held.get(task).copied();
        held.insert(task.to_owned(), former.map_or(until, |former| former.max(until)));
        former
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_many_faults_every_task_ends_once_and_no_lease_is_held_twice() {
    let is_full = std::env::var_os("TASKBELL_FULL").is_some_and(|set| set == "1");
    let size = if is_full { FULL } else { SAMPLE };
    let seed = std::env::var("TASKBELL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TASKBELL_SEED={seed}");
    let mut cluster = Cluster::start().await;
    schedules_of_an_hour_ago(&cluster, size.schedules).await;
    let mut proxies = Vec::new();
    for _ in 0..3 {
        proxies.push(Proxy::start(cluster.addr()).await);
    }
    let args = ["--kind", "job:lease_s=3", "--kind", "tick:lease_s=3"];
    let start = |proxy: &Proxy| Server::on_cluster(&url(proxy.addr(), "taskbell"), args);
    let mut servers: Vec<Server> = proxies.iter().map(start).collect();
    for server in &servers {
        fresh(server).await;
    }
    let clients = Arc::new(Clients {
        urls: servers.iter().map(Server::url).collect(),
        seed,
        held: Mutex::default(),
        twice: Mutex::default(),
        changes: watch::Sender::new(0),
    });
    let workers: Vec<_> = (0..size.workers).map(|number| tokio::spawn(Arc::clone(&clients).work(number))).collect();
    let mut random = StdRng::seed_from_u64(seed ^ 0xff);
    let disturb = async {
        for _ in 0..size.faults {
            let changes = clients.changes.subscribe();
            wait_for(changes, size.tasks * 3 / size.faults).await;
            disturb(&mut cluster, &mut servers, &proxies, &mut random).await;
        }
    };
    tokio::join!(clients.submit(&size), disturb);
    for server in &servers {
        fresh(server).await;
    }
    let mut live = Live::open(&servers[0]).await;
    let begun = Instant::now();
    while let unfinished @ 1.. =
        histories(&cluster).values().filter(|history| !history.contains(&"Completed".into())).count()
    {
        assert!(begun.elapsed() < STUCK, "{unfinished} tasks don't end");
        live.next().await;
    }
    for worker in workers {
        worker.abort();
    }
    for (task, history) in histories(&cluster).into_iter().filter(|(_, history)| history[0] == "Created") {
        let ends = history.iter().filter(|kind| *kind == "Completed").count();
        let firsts = history.iter().filter(|kind| *kind == "Created").count();
        assert!(ends == 1 && firsts == 1 && history.last().unwrap() == "Completed", "{task} {history:?}");
    }
    for (schedule, mut runs) in fired(&cluster) {
        let all = runs.len();
        runs.sort();
        runs.dedup();
        assert!(all == runs.len() && all >= 60, "{schedule}: {} of {all}", runs.len());
    }
    assert_eq!(*clients.twice.lock().unwrap(), [""; 0], "held twice at one time");
    let position = cluster.events();
    let expected = counters(&servers[0], position).await;
    for server in &servers[1..] {
        assert_eq!(counters(server, position).await, expected);
    }
    println!("{position} events");
}

/// One fault, and its end.
async fn disturb(cluster: &mut Cluster, servers: &mut [Server], proxies: &[Proxy], random: &mut StdRng) {
    let place = random.random_range(0..servers.len());
    match random.random_range(0..7) {
        0 => {
            servers[place].kill9();
            servers[place].restart();
            fresh(&servers[place]).await;
        }
        1 => {
            cluster.stop().await;
            stale(&servers[place]).await;
            cluster.restart().await;
        }
        2 => {
            proxies[place].set(Mode::BlackHole);
            stale(&servers[place]).await;
            proxies[place].set(Mode::Pass);
            fresh(&servers[place]).await;
        }
        3 => proxies[place].set(Mode::Delay(Duration::from_millis(20))),
        4 => {
            proxies[place].set(Mode::Duplicate);
            proxies[place].cut();
            fresh(&servers[place]).await;
            proxies[place].set(Mode::Pass);
        }
        5 => cluster.database.end_subscriptions(),
        _ => proxies.iter().for_each(Proxy::cut),
    }
}

/// Waits for so many changes; less are enough when there are none for long.
async fn wait_for(mut changes: watch::Receiver<usize>, count: usize) {
    let first = *changes.borrow();
    let _ = tokio::time::timeout(Duration::from_secs(10), changes.wait_for(|changes| *changes >= first + count)).await;
}

/// The types of the events of each task.
fn histories(cluster: &Cluster) -> BTreeMap<String, Vec<String>> {
    let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in cluster.database.all() {
        if event.stream.starts_with("taskbell.task-") {
            histories.entry(event.stream.to_string()).or_default().push(event.kind.to_string());
        }
    }
    histories
}
