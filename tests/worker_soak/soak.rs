//! A long random test: workers and the server are killed at random, again and again. Every task must end once, and no
//! task may be lost or stay open.
//!
//! `TASKBELL_FULL=1` runs it at full size: `cargo test --test taskbell worker_soak::soak -- --nocapture`. `TASKBELL_SEED`
//! repeats the random choices of a run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::checker::Checker;
use crate::support::{LiveSocket, Server, TEST_TIMEOUT, is_final};

/// The size of a run.
struct Size {
    tasks: usize,
    workers: usize,
    worker_kills: usize,
    server_kills: usize,
}

const SAMPLE: Size = Size { tasks: 600, workers: 3, worker_kills: 6, server_kills: 2 };
const FULL: Size = Size { tasks: 20_000, workers: 8, worker_kills: 50, server_kills: 10 };

/// The number of tasks in one request.
const BATCH: usize = 100;
/// The test fails if no task ends for this long.
const STALL_TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_servers_are_killed_and_every_task_ends_once() {
    let full = std::env::var_os("TASKBELL_FULL").is_some_and(|set| set == "1");
    let size = if full { FULL } else { SAMPLE };
    let seed = std::env::var("TASKBELL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("TASKBELL_SEED={seed}");
    let begun = Instant::now();
    let mut server = Server::with(["--kind", "soak.plain:lease_s=1", "--kind", LADDER]);
    let clients = Clients::new(&server.url(), seed);
    let journals = tempfile::tempdir().unwrap();
    let mut fleet =
        WorkerFleet { url: server.url(), dir: journals.path().to_owned(), seed, started_count: 0, workers: Vec::new() };
    fleet.workers = (0..size.workers).map(|_| fleet.start_worker()).collect();
    let (clients_done_sender, clients_done) = watch::channel(false);
    let client_requests = async {
        tokio::join!(clients.submit(size.tasks), clients.cancel_and_retry(size.tasks / 4));
        clients_done_sender.send_replace(true);
    };
    tokio::join!(client_requests, kill_until_all_ended(&mut server, &mut fleet, &size, clients_done));
    fleet.workers.clear();
    let took = begun.elapsed();
    let checker = check_all(&server, &clients, journals.path(), size.tasks).await;
    println!(
        "{} tasks, {} workers of which {} were killed, {} server kills: {} events in {:.1} s",
        size.tasks,
        size.workers,
        size.worker_kills,
        size.server_kills,
        checker.events,
        took.as_secs_f64()
    );
    for (what, count) in &checker.event_counts {
        println!("{count:>8}  {what}");
    }
}

/// A kind whose cancel ladder is so short that workers that ignore cancels lose their leases.
const LADDER: &str = "soak.ladder:lease_s=1,ask_for_s=0.3,interrupt_for_s=0.3";

/// The running worker processes.
struct WorkerFleet {
    url: String,
    dir: PathBuf,
    seed: u64,
    started_count: u64,
    workers: Vec<Worker>,
}

/// A worker process. Dropping this value kills it.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl WorkerFleet {
    fn start_worker(&mut self) -> Worker {
        self.started_count += 1;
        let name = format!("w{}", self.started_count);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/worker_soak/worker.py");
        let journal = self.dir.join(&name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("stderr")).unwrap();
        let mut python = Command::new("python3");
        python
            .arg(script)
            .args([&self.url, &name, &self.seed.wrapping_add(self.started_count).to_string()])
            .arg(journal);
        let child = python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Worker(child.expect("python3; `.ci/install` installs it"))
    }

    /// Kills the worker with this index and starts another one instead.
    fn replace_worker(&mut self, index: usize) {
        let new_worker = self.start_worker();
        self.workers[index] = new_worker;
    }
}

/// Kills workers and the server, evenly distributed over the ends of tasks, until all tasks have ended.
async fn kill_until_all_ended(
    server: &mut Server,
    fleet: &mut WorkerFleet,
    size: &Size,
    mut clients_done: watch::Receiver<bool>,
) {
    let mut random = StdRng::seed_from_u64(fleet.seed);
    let at = |n: usize, of: usize| (size.tasks * (n + 1) / (of + 1)) as u64;
    let mut worker_kills: Vec<u64> = (0..size.worker_kills).map(|n| at(n, size.worker_kills)).rev().collect();
    let mut server_kills: Vec<u64> = (0..size.server_kills).map(|n| at(n, size.server_kills)).rev().collect();
    let mut live = LiveSocket::open(server).await;
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(STALL_TIMEOUT, live.next_or_close()) => frame,
            Ok(()) = clients_done.changed() => {
                live.send(&json!({"type": "resync"})).await;
                continue;
            }
        };
        let Ok(frame) = frame else { panic!("no task ends any more: {}", server.get("/v1/counters").await.text) };
        let frame = frame.unwrap_or_else(|close| panic!("the socket was closed: {close:?}"));
        if frame["type"] != "snapshot" && frame["type"] != "counters" {
            continue;
        }
        let of = |status: &str| frame["counts"][status].as_u64().unwrap();
        let ended = of("succeeded") + of("failed") + of("cancelled");
        if worker_kills.pop_if(|at| *at <= ended).is_some() {
            fleet.replace_worker(random.random_range(0..fleet.workers.len()));
            live.send(&json!({"type": "resync"})).await;
        } else if server_kills.pop_if(|at| *at <= ended).is_some() {
            // The sleep makes the moment of the kill random.
            tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
            server.restart();
            live = LiveSocket::open(server).await;
        } else if ended == size.tasks as u64 && *clients_done.borrow() {
            return;
        }
    }
}

/// Clients that create, cancel and retry tasks, and the responses that they received.
struct Clients {
    url: String,
    seed: u64,
    http: reqwest::Client,
    ids: Mutex<Vec<String>>,
    /// The tasks in the responses to cancels and retries.
    changed_tasks: Mutex<Vec<Value>>,
}

impl Clients {
    fn new(url: &str, seed: u64) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { url: url.to_owned(), seed, http, ids: Mutex::default(), changed_tasks: Mutex::default() }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(|| self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// Repeats the request until there is a response with another status than 503.
    async fn send(&self, request: impl Fn() -> reqwest::RequestBuilder) -> (u16, Value) {
        let request = async {
            loop {
                let Ok(answer) = request().send().await else {
                    // The server is being restarted. No signal tells a client when it is available again.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                };
                let status = answer.status().as_u16();
                if let Ok(text) = answer.text().await
                    && status != 503
                {
                    return (status, serde_json::from_str(&text).unwrap_or(Value::Null));
                }
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, request).await.expect("a response in time")
    }

    async fn submit(&self, tasks: usize) {
        let mut random = StdRng::seed_from_u64(self.seed ^ 1);
        for batch in 0..tasks / BATCH {
            let item = |n: usize| {
                let kind = if random.random_ratio(1, 5) { "soak.ladder" } else { "soak.plain" };
                json!({"kind": kind, "title": n.to_string(), "max_attempts": 20, "idempotency_key": n.to_string(),
                       "queue": format!("q{}", n % 3), "priority": n % 2, "input": {"n": n}})
            };
            let items: Vec<Value> = (batch * BATCH..(batch + 1) * BATCH).map(item).collect();
            let (status, answer) = self.post("/v1/tasks/batch", &json!({"items": items})).await;
            assert_eq!(status, 200, "{answer}");
            let items = answer["items"].as_array().unwrap();
            let ids = items.iter().map(|item| item["id"].as_str().unwrap_or_else(|| panic!("{item}")).to_owned());
            self.ids.lock().unwrap().extend(ids);
        }
    }

    /// Cancels some tasks, most of them while they run, and retries some that have ended.
    async fn cancel_and_retry(&self, times: usize) {
        let mut random = StdRng::seed_from_u64(self.seed ^ 2);
        let (mut done, mut alive) = (0, Vec::new());
        while done < times {
            if alive.is_empty() {
                let path = format!("{}/v1/tasks?status=running,cancelling,queued&limit=10&order=asc", self.url);
                let (_, page) = self.send(|| self.http.get(&path)).await;
                let items = page["items"].as_array().unwrap();
                alive = items.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect();
            }
            let any = self.ids.lock().unwrap().choose(&mut random).cloned();
            let retry = random.random_ratio(1, 4);
            let (what, id) = if retry { ("retry", any) } else { ("cancel", alive.pop().or(any)) };
            let Some(id) = id else {
                tokio::task::yield_now().await;
                continue;
            };
            done += 1;
            let (status, answer) = self.post(&format!("/v1/tasks/{id}/{what}"), &json!({})).await;
            assert!(matches!((what, status), (_, 200 | 202) | ("retry", 409)), "{what}: {status} {answer}");
            if status < 300 {
                self.changed_tasks.lock().unwrap().push(answer);
            }
        }
    }
}

/// Compares the log with the responses that workers and clients received, and with the views.
async fn check_all(server: &Server, clients: &Clients, journals: &Path, tasks: usize) -> Checker {
    let head = server.get("/v1/log/head").await.body;
    let checker = Checker::check_log(&server.get("/v1/log").await.text);
    assert_eq!((&head["position"], &head["hash"]), (&json!(checker.events), &json!(checker.hash())));
    let ids = clients.ids.lock().unwrap().clone();
    assert_eq!((ids.len(), checker.tasks.len()), (tasks, tasks), "none is lost, and none is there twice");
    for id in &ids {
        let task = checker.tasks.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(task.why_not_ended(), None, "{id} is left: {:?}", task.statuses);
    }
    for task in &*clients.changed_tasks.lock().unwrap() {
        let revision = usize::try_from(task["revision"].as_u64().unwrap()).unwrap();
        let known = checker.tasks[task["id"].as_str().unwrap()].statuses.get(revision).copied();
        assert_eq!(task["status"].as_str(), known, "in a response to a client: {task}");
    }
    let finishes = check_journals(&checker, journals);
    let shown = server.get("/v1/counters").await.body;
    for (status, count) in checker.counts() {
        assert_eq!(shown["counts"][status], count, "{status}: {shown}");
    }
    let finals = clients.changed_tasks.lock().unwrap().iter().filter(|task| is_final(task)).count();
    println!("responses reported {finishes} ends to workers and {finals} to clients: all of them are in the log");
    checker
}

/// Checks that each end that was acknowledged to a worker is in the log. Returns the number of these ends.
fn check_journals(checker: &Checker, journals: &Path) -> usize {
    let stderr = std::fs::read_to_string(journals.join("stderr")).unwrap_or_default();
    assert!(stderr.is_empty(), "a worker broke:\n{stderr}");
    let mut finishes = 0;
    for file in std::fs::read_dir(journals).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        // The last line of a killed worker may be incomplete, so lines that are no JSON are ignored.
        let text = std::fs::read_to_string(file.path()).unwrap();
        for note in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            assert!(note["violation"].is_null(), "{name}: {note}");
            let Some(id) = note["finished"].as_str() else { continue };
            let end = checker.tasks[id].ends.get(&note["attempt"].as_u64().unwrap());
            let end = end.unwrap_or_else(|| panic!("{name}: the attempt has no end: {note}"));
            let answer = note["response"].as_str().unwrap();
            if answer == "lease_lost" {
                assert!(!end.by_worker, "{name}: {note}, but it was {} who ended it", end.actor);
            } else {
                assert_eq!((answer, end.by_worker, &*end.actor), (end.status, true, &*name), "{note}");
            }
            finishes += 1;
        }
    }
    finishes
}
