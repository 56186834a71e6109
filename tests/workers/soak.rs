//! Workers and the server are killed at random, again and again: every task ends once, none is lost, none is left.
//!
//! `TASKBELL_FULL=1` runs it at full size: `cargo test --test taskbell workers::soak -- --nocapture`; `TASKBELL_SEED`
//! repeats the choices of a run.

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
use crate::support::{Live, PATIENCE, Server, is_final};

/// The size of a run.
struct Size {
    tasks: usize,
    workers: usize,
    worker_kills: usize,
    server_kills: usize,
}

const SAMPLE: Size = Size { tasks: 600, workers: 3, worker_kills: 6, server_kills: 2 };
const FULL: Size = Size { tasks: 20_000, workers: 8, worker_kills: 50, server_kills: 10 };

/// Tasks in one create request.
const BATCH: usize = 100;
/// Without one more end for so long, the run is stuck.
const STUCK: Duration = Duration::from_secs(90);

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
    let mut fleet = Fleet { url: server.url(), dir: journals.path().to_owned(), seed, so_far: 0, workers: Vec::new() };
    fleet.workers = (0..size.workers).map(|_| fleet.start_worker()).collect();
    let (all, over) = watch::channel(false);
    let asking = async {
        tokio::join!(clients.submit(size.tasks), clients.turn(size.tasks / 4));
        all.send_replace(true);
    };
    tokio::join!(asking, drive(&mut server, &mut fleet, &size, over));
    fleet.workers.clear();
    let took = begun.elapsed();
    let checker = checked(&server, &clients, journals.path(), size.tasks).await;
    println!(
        "{} tasks, {} workers of which {} were killed, {} server kills: {} events in {:.1} s",
        size.tasks,
        size.workers,
        size.worker_kills,
        size.server_kills,
        checker.events,
        took.as_secs_f64()
    );
    for (what, count) in &checker.figures {
        println!("{count:>8}  {what}");
    }
}

/// The kind with a ladder that is short enough for workers that ignore cancels to lose their leases.
const LADDER: &str = "soak.ladder:lease_s=1,ask_for_s=0.3,interrupt_for_s=0.3";

/// The workers that run.
struct Fleet {
    url: String,
    dir: PathBuf,
    seed: u64,
    so_far: u64,
    workers: Vec<Worker>,
}

/// A process; dropping it is `kill -9`.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Fleet {
    fn start_worker(&mut self) -> Worker {
        self.so_far += 1;
        let name = format!("w{}", self.so_far);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workers/worker.py");
        let journal = self.dir.join(&name);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("stderr")).unwrap();
        let mut python = Command::new("python3");
        python.arg(script).args([&self.url, &name, &self.seed.wrapping_add(self.so_far).to_string()]).arg(journal);
        let child = python.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Worker(child.expect("python3; `.ci/install` installs it"))
    }

    /// Kills one of them and starts another in its place.
    fn replace(&mut self, place: usize) {
        let another = self.start_worker();
        self.workers[place] = another;
    }
}

/// Kills workers and servers as tasks end, until all have ended.
async fn drive(server: &mut Server, fleet: &mut Fleet, size: &Size, mut over: watch::Receiver<bool>) {
    let mut random = StdRng::seed_from_u64(fleet.seed);
    let at = |n: usize, of: usize| (size.tasks * (n + 1) / (of + 1)) as u64;
    let mut worker_kills: Vec<u64> = (0..size.worker_kills).map(|n| at(n, size.worker_kills)).rev().collect();
    let mut server_kills: Vec<u64> = (0..size.server_kills).map(|n| at(n, size.server_kills)).rev().collect();
    let mut live = Live::open(server).await;
    loop {
        let frame = tokio::select! {
            frame = tokio::time::timeout(STUCK, live.next_or_close()) => frame,
            Ok(()) = over.changed() => {
                live.send(&json!({"type": "resync"})).await;
                continue;
            }
        };
        let Ok(frame) = frame else { panic!("nothing ends any more: {}", server.get("/v1/counters").await.text) };
        let frame = frame.unwrap_or_else(|close| panic!("the socket was closed: {close:?}"));
        if frame["type"] != "snapshot" && frame["type"] != "counters" {
            continue;
        }
        let of = |status: &str| frame["counts"][status].as_u64().unwrap();
        let ended = of("succeeded") + of("failed") + of("cancelled");
        if worker_kills.pop_if(|at| *at <= ended).is_some() {
            fleet.replace(random.random_range(0..fleet.workers.len()));
            live.send(&json!({"type": "resync"})).await;
        } else if server_kills.pop_if(|at| *at <= ended).is_some() {
            // Not a wait for anything: the moment is to be any.
            tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
            server.restart();
            live = Live::open(server).await;
        } else if ended == size.tasks as u64 && *over.borrow() {
            return;
        }
    }
}

/// Clients that create, cancel and retry tasks, and the answers that they received.
struct Clients {
    url: String,
    seed: u64,
    http: reqwest::Client,
    ids: Mutex<Vec<String>>,
    /// Tasks as answers showed them.
    answers: Mutex<Vec<Value>>,
}

impl Clients {
    fn new(url: &str, seed: u64) -> Self {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        Self { url: url.to_owned(), seed, http, ids: Mutex::default(), answers: Mutex::default() }
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.answer(|| self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// Asks until there is an answer.
    async fn answer(&self, request: impl Fn() -> reqwest::RequestBuilder) -> (u16, Value) {
        let request = async {
            loop {
                let Ok(answer) = request().send().await else {
                    // The server is gone, and will be back; there is no signal of it for a client.
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
        tokio::time::timeout(PATIENCE, request).await.expect("an answer in time")
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
    async fn turn(&self, times: usize) {
        let mut random = StdRng::seed_from_u64(self.seed ^ 2);
        let (mut done, mut alive) = (0, Vec::new());
        while done < times {
            if alive.is_empty() {
                let path = format!("{}/v1/tasks?status=running,cancelling,queued&limit=10&order=asc", self.url);
                let (_, page) = self.answer(|| self.http.get(&path)).await;
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
                self.answers.lock().unwrap().push(answer);
            }
        }
    }
}

/// Checks the log, the answers that workers and clients received, and what the views show.
async fn checked(server: &Server, clients: &Clients, journals: &Path, tasks: usize) -> Checker {
    let head = server.get("/v1/log/head").await.body;
    let checker = Checker::of(&server.get("/v1/log").await.text);
    assert_eq!((&head["position"], &head["hash"]), (&json!(checker.events), &json!(checker.hash())));
    let ids = clients.ids.lock().unwrap().clone();
    assert_eq!((ids.len(), checker.tasks.len()), (tasks, tasks), "none is lost, and none is there twice");
    for id in &ids {
        let task = checker.tasks.get(id).unwrap_or_else(|| panic!("{id} is lost"));
        assert_eq!(task.left(), None, "{id} is left: {:?}", task.statuses);
    }
    for task in &*clients.answers.lock().unwrap() {
        let revision = usize::try_from(task["revision"].as_u64().unwrap()).unwrap();
        let known = checker.tasks[task["id"].as_str().unwrap()].statuses.get(revision).copied();
        assert_eq!(task["status"].as_str(), known, "what a client was answered: {task}");
    }
    let finishes = check_journals(&checker, journals);
    let shown = server.get("/v1/counters").await.body;
    for (status, count) in checker.counts() {
        assert_eq!(shown["counts"][status], count, "{status}: {shown}");
    }
    let finals = clients.answers.lock().unwrap().iter().filter(|task| is_final(task)).count();
    println!("{finishes} ends were answered to workers and {finals} to clients: all of them are in the log");
    checker
}

/// Checks that each end that a worker was answered is in the log; their number.
fn check_journals(checker: &Checker, journals: &Path) -> usize {
    let stderr = std::fs::read_to_string(journals.join("stderr")).unwrap_or_default();
    assert!(stderr.is_empty(), "a worker broke:\n{stderr}");
    let mut finishes = 0;
    for file in std::fs::read_dir(journals).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        // The last line of one that was killed may be cut off.
        let text = std::fs::read_to_string(file.path()).unwrap();
        for note in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            assert!(note["violation"].is_null(), "{name}: {note}");
            let Some(id) = note["finished"].as_str() else { continue };
            let end = checker.tasks[id].ends.get(&note["attempt"].as_u64().unwrap());
            let end = end.unwrap_or_else(|| panic!("{name}: the attempt has no end: {note}"));
            let answer = note["told"].as_str().unwrap();
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
