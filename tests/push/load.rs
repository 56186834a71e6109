//! Load on a real server with many open sockets: small trees to copy, tasks that no worker takes, cancels, retries, `seen`.
//! The pushes pace it: a round begins when a socket has got the frames of the former round.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::support::{Answer, Live, Server};

/// Connections that write.
const DRIVERS: usize = 4;

/// The size of the load.
#[derive(Clone, Copy)]
pub struct Size {
    pub sockets: usize,
    pub tasks: usize,
    pub cancels: usize,
    /// Counters and snapshot frames on all sockets together, at least.
    pub frames: usize,
}

/// The answers and frames of a run.
pub struct Seen {
    /// The whole log.
    pub log: String,
    /// Each socket: its filter, if it subscribed, and all its frames.
    pub sockets: Vec<(Option<Value>, Vec<Value>)>,
    /// Answers of `GET /v1/counters` in between.
    pub polls: Vec<Value>,
}

struct Run {
    server: Server,
    root: TempDir,
    size: Size,
    created: AtomicUsize,
    cancelled: AtomicUsize,
    frames: AtomicUsize,
    /// The positions of the last stages: in each stage, readers read until a counters frame has reached its position.
    until: watch::Sender<Vec<u64>>,
    barrier: Barrier,
}

/// The filter of the n-th socket's subscription; none where it gets the counters only.
fn filter(socket: usize) -> Option<Value> {
    match socket % 10 {
        0 => Some(json!({"status": ["queued"]})),
        1 => Some(json!({"status": ["running", "cancelling"]})),
        2 => Some(json!({"kind": ["content.distribute"], "label": ["team:a"]})),
        3 => Some(json!({"owner": ["mira"], "status": ["cancelled", "succeeded"]})),
        _ => None,
    }
}

/// Runs the load, and waits until the server is idle and every socket has got the last counts.
pub async fn run(size: Size) -> Seen {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("source")).unwrap();
    std::fs::write(root.path().join("source/page.html"), "<p>a tiny page</p>").unwrap();
    let run = Arc::new(Run {
        server: Server::with_content(root.path(), None),
        root,
        size,
        created: AtomicUsize::new(0),
        cancelled: AtomicUsize::new(0),
        frames: AtomicUsize::new(0),
        until: watch::channel(Vec::new()).0,
        barrier: Barrier::new(size.sockets + 1),
    });
    let mut readers = JoinSet::new();
    for n in 0..size.sockets {
        let run = run.clone();
        readers.spawn(async move { read(&run, filter(n)).await });
    }
    run.barrier.wait().await;
    let mut drivers = JoinSet::new();
    for n in 0..DRIVERS {
        let run = run.clone();
        drivers.spawn(async move { drive(&run, n).await });
    }
    let mut polls = drivers.join_all().await.concat();
    quiet(&run.server).await;
    // Twice: frames that the hub had not sent before the first stage are sent before the second.
    for _ in 0..2 {
        let head = run.server.get("/v1/log/head").await.body["position"].clone();
        let seen = run.server.post("/v1/bell/seen", &json!({"position": head})).await;
        assert_eq!(seen.status, 204, "{}", seen.text);
        run.until.send_modify(|until| until.push(head.as_u64().unwrap() + 1));
        run.barrier.wait().await;
        polls.push(run.server.get("/v1/counters").await.body);
    }
    let sockets = readers.join_all().await;
    let log = run.server.get("/v1/log").await.text;
    Seen { log, sockets, polls }
}

/// Waits until every task of the kinds that this server runs is final.
pub async fn quiet(server: &Server) {
    let mut live = Live::open(server).await;
    let kinds = ["content.distribute", "taskbell.bulk-cancel"];
    live.send(&json!({"type": "subscribe", "filter": {"kind": kinds}})).await;
    live.until("subscribed").await;
    loop {
        let path =
            format!("/v1/tasks?kind={}&limit=1&status=scheduled,queued,running,cancelling,retrying", kinds.join(","));
        if server.get(&path).await.body["total"] == 0 {
            return;
        }
        while !live.next().await["type"].as_str().unwrap().starts_with("tasks") {}
    }
}

async fn read(run: &Run, filter: Option<Value>) -> (Option<Value>, Vec<Value>) {
    let mut live = Live::open(&run.server).await;
    let mut frames = vec![live.next().await, live.next().await];
    if let Some(filter) = &filter {
        live.send(&json!({"type": "subscribe", "filter": filter})).await;
        frames.push(live.until("subscribed").await);
    }
    let mut until = run.until.subscribe();
    run.barrier.wait().await;
    for stage in 0..2 {
        loop {
            let last = frames.iter().rev().find(|frame| frame["type"] == "counters");
            let reached = last.map_or(0, |frame| frame["position"].as_u64().unwrap());
            if until.borrow_and_update().get(stage).is_some_and(|until| reached >= *until) {
                break;
            }
            tokio::select! {
                frame = live.next() => {
                    run.frames.fetch_add(usize::from(frame["type"] == "counters"), Ordering::Relaxed);
                    frames.push(frame);
                }
                _ = until.changed() => {}
            }
        }
        live.send(&json!({"type": "resync"})).await;
        while frames.last().unwrap()["type"] != "snapshot" {
            frames.push(live.next().await);
        }
        run.barrier.wait().await;
    }
    (filter, frames)
}

/// A connection that sends commands.
struct Driver<'a> {
    run: &'a Run,
    client: reqwest::Client,
    /// Its tasks that no worker takes.
    waiting: Vec<String>,
    /// Its tasks whose cancel was requested.
    ended: Vec<String>,
    copies: Vec<String>,
}

async fn drive(run: &Run, n: usize) -> Vec<Value> {
    let mut pace = Live::open(&run.server).await;
    let mut polls = Vec::new();
    let (client, size) = (reqwest::Client::new(), run.size);
    let mut driver = Driver { run, client, waiting: Vec::new(), ended: Vec::new(), copies: Vec::new() };
    for round in n.. {
        let more = run.created.load(Ordering::Relaxed) < size.tasks;
        if more {
            driver.create(round % 2 == 0).await;
        }
        let due =
            run.cancelled.load(Ordering::Relaxed) * size.tasks < size.cancels * run.created.load(Ordering::Relaxed);
        if !more && !due && run.frames.load(Ordering::Relaxed) >= size.frames {
            break;
        }
        if due || !more {
            driver.cancel(round % 3 == 0).await;
        }
        if round % 5 == 0 || !more {
            driver.retry().await;
        }
        driver.keep_pace(&mut pace).await;
        let counters = run.server.send(driver.client.get(run.server.url() + "/v1/counters")).await.body;
        let position = counters["position"].as_u64().unwrap();
        if round % 7 == 0 {
            driver.post("/v1/bell/seen", &json!({"position": position - position % 3})).await;
        }
        polls.push(counters);
    }
    polls
}

impl Driver<'_> {
    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.run.server.send(self.client.post(self.run.server.url() + path).json(body)).await
    }

    /// Waits until a push has a later position than every answer so far: one more task makes sure that there is one.
    async fn keep_pace(&mut self, pace: &mut Live) {
        let mark = self.post("/v1/tasks", &json!({"kind": "nobody.mark"})).await;
        assert_eq!(mark.status, 201, "{}", mark.text);
        self.waiting.push(mark.id());
        while pace.until("counters").await["position"].as_u64().unwrap() < mark.position() {}
    }

    fn task(&self) -> Value {
        let n = self.run.created.fetch_add(1, Ordering::Relaxed);
        let root: PathBuf = self.run.root.path().into();
        let (kind, input) = if n.is_multiple_of(2) {
            let target = root.join(format!("copies/{n}"));
            ("content.distribute".to_owned(), json!({"source": root.join("source"), "targets": [target]}))
        } else {
            (format!("nobody.{}", n % 3), json!(null))
        };
        json!({
            "kind": kind, "input": input, "title": format!("task {n}"),
            "labels": {"team": if n % 4 < 2 { "a" } else { "b" }}, "owner": if n % 10 > 7 { "mira" } else { "local" },
        })
    }

    fn note(&mut self, task: &Value, id: String) {
        let list = if task["kind"] == "content.distribute" { &mut self.copies } else { &mut self.waiting };
        list.push(id);
    }

    async fn create(&mut self, batch: bool) {
        let tasks: Vec<Value> = (0..3).map(|_| self.task()).collect();
        if batch {
            let answer = self.post("/v1/tasks/batch", &json!({"items": tasks})).await;
            for (task, item) in tasks.iter().zip(answer.body["items"].as_array().unwrap()) {
                self.note(task, item["id"].as_str().expect("an id").to_owned());
            }
            return;
        }
        for task in &tasks {
            let answer = self.post("/v1/tasks", task).await;
            assert_eq!(answer.status, 201, "{}", answer.text);
            self.note(task, answer.id());
        }
    }

    async fn cancel(&mut self, copy: bool) {
        let from = if copy && !self.copies.is_empty() { &mut self.copies } else { &mut self.waiting };
        let Some(id) = from.pop() else { return };
        let answer = self.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "not needed"})).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
        self.run.cancelled.fetch_add(1, Ordering::Relaxed);
        self.ended.push(id);
    }

    async fn retry(&mut self) {
        let Some(id) = self.ended.pop() else { return };
        let answer = self.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await;
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text);
        self.waiting.insert(0, id);
    }
}
