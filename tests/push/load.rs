//! Real load on a real server, with many sockets open: small trees to copy, tasks that nobody takes, cancels, retries,
//! `Seen`. It is paced by the pushes themselves: the next round begins when the former has been seen on a socket.

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

/// How much of it.
#[derive(Clone, Copy)]
pub struct Size {
    pub sockets: usize,
    pub tasks: usize,
    pub cancels: usize,
    /// Counters and snapshot frames on all sockets together, at least.
    pub frames: usize,
}

/// What was seen of it.
pub struct Seen {
    /// The whole log.
    pub log: String,
    /// Each socket: its filter, if it subscribed, and all its frames.
    pub sockets: Vec<(Option<Value>, Vec<Value>)>,
    /// Answers of `GET /v1/counters` in between.
    pub polls: Vec<Value>,
}

struct World {
    server: Server,
    root: TempDir,
    size: Size,
    created: AtomicUsize,
    cancelled: AtomicUsize,
    frames: AtomicUsize,
    /// The end comes in stages: in each, readers read until a counters frame has its position.
    until: watch::Sender<Vec<u64>>,
    barrier: Barrier,
}

/// What a socket subscribes to; the others watch the counters alone.
fn filter(socket: usize) -> Option<Value> {
    match socket % 10 {
        0 => Some(json!({"status": ["queued"]})),
        1 => Some(json!({"status": ["running", "cancelling"]})),
        2 => Some(json!({"kind": ["content.distribute"], "label": ["team:a"]})),
        3 => Some(json!({"owner": ["mira"], "status": ["cancelled", "succeeded"]})),
        _ => None,
    }
}

/// Runs the load and waits until all is quiet and every socket has been told.
pub async fn run(size: Size) -> Seen {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("source")).unwrap();
    std::fs::write(root.path().join("source/page.html"), "<p>a tiny page</p>").unwrap();
    let world = Arc::new(World {
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
        let world = world.clone();
        readers.spawn(async move { read(&world, filter(n)).await });
    }
    world.barrier.wait().await;
    let mut drivers = JoinSet::new();
    for n in 0..DRIVERS {
        let world = world.clone();
        drivers.spawn(async move { drive(&world, n).await });
    }
    let mut polls = drivers.join_all().await.concat();
    quiet(&world.server).await;
    // Twice: what the hub had not handled before the first is told before the second.
    for _ in 0..2 {
        let head = world.server.get("/v1/log/head").await.body["position"].clone();
        let seen = world.server.post("/v1/bell/seen", &json!({"position": head})).await;
        assert_eq!(seen.status, 204, "{}", seen.text);
        world.until.send_modify(|until| until.push(head.as_u64().unwrap() + 1));
        world.barrier.wait().await;
        polls.push(world.server.get("/v1/counters").await.body);
    }
    let sockets = readers.join_all().await;
    let log = world.server.get("/v1/log").await.text;
    Seen { log, sockets, polls }
}

/// Waits until everything that this server works on has ended.
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

async fn read(world: &World, filter: Option<Value>) -> (Option<Value>, Vec<Value>) {
    let mut live = Live::open(&world.server).await;
    let mut frames = vec![live.next().await, live.next().await];
    if let Some(filter) = &filter {
        live.send(&json!({"type": "subscribe", "filter": filter})).await;
        frames.push(live.until("subscribed").await);
    }
    let mut until = world.until.subscribe();
    world.barrier.wait().await;
    for stage in 0..2 {
        loop {
            let last = frames.iter().rev().find(|frame| frame["type"] == "counters");
            let told = last.map_or(0, |frame| frame["position"].as_u64().unwrap());
            if until.borrow_and_update().get(stage).is_some_and(|until| told >= *until) {
                break;
            }
            tokio::select! {
                frame = live.next() => {
                    world.frames.fetch_add(usize::from(frame["type"] == "counters"), Ordering::Relaxed);
                    frames.push(frame);
                }
                _ = until.changed() => {}
            }
        }
        live.send(&json!({"type": "resync"})).await;
        while frames.last().unwrap()["type"] != "snapshot" {
            frames.push(live.next().await);
        }
        world.barrier.wait().await;
    }
    (filter, frames)
}

/// One connection that writes.
struct Driver<'a> {
    world: &'a World,
    client: reqwest::Client,
    /// Tasks of mine that nobody takes.
    waiting: Vec<String>,
    /// Tasks of mine that a cancel has ended, or may have.
    ended: Vec<String>,
    copies: Vec<String>,
}

async fn drive(world: &World, n: usize) -> Vec<Value> {
    let mut pace = Live::open(&world.server).await;
    let mut polls = Vec::new();
    let (client, size) = (reqwest::Client::new(), world.size);
    let mut driver = Driver { world, client, waiting: Vec::new(), ended: Vec::new(), copies: Vec::new() };
    for round in n.. {
        let more = world.created.load(Ordering::Relaxed) < size.tasks;
        if more {
            driver.create(round % 2 == 0).await;
        }
        let due =
            world.cancelled.load(Ordering::Relaxed) * size.tasks < size.cancels * world.created.load(Ordering::Relaxed);
        if !more && !due && world.frames.load(Ordering::Relaxed) >= size.frames {
            break;
        }
        if due || !more {
            driver.cancel(round % 3 == 0).await;
        }
        if round % 5 == 0 || !more {
            driver.retry().await;
        }
        driver.keep_pace(&mut pace).await;
        let counters = world.server.send(driver.client.get(world.server.url() + "/v1/counters")).await.body;
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
        self.world.server.send(self.client.post(self.world.server.url() + path).json(body)).await
    }

    /// Waits until a push tells of something later than all that has been answered: one more task makes sure that there
    /// is something.
    async fn keep_pace(&mut self, pace: &mut Live) {
        let mark = self.post("/v1/tasks", &json!({"kind": "nobody.mark"})).await;
        assert_eq!(mark.status, 201, "{}", mark.text);
        self.waiting.push(mark.id());
        while pace.until("counters").await["position"].as_u64().unwrap() < mark.position() {}
    }

    fn task(&self) -> Value {
        let n = self.world.created.fetch_add(1, Ordering::Relaxed);
        let root: PathBuf = self.world.root.path().into();
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
        self.world.cancelled.fetch_add(1, Ordering::Relaxed);
        self.ended.push(id);
    }

    async fn retry(&mut self) {
        let Some(id) = self.ended.pop() else { return };
        let answer = self.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await;
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text);
        self.waiting.insert(0, id);
    }
}
