//! A load on a real server with many open websockets. Clients create small trees to copy and tasks that no worker
//! takes, and send cancels, retries and `seen` positions. Pushed frames set the pace: a round begins when a socket has
//! received the frames of the previous round.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Barrier, watch};
use tokio::task::JoinSet;

use crate::support::{HttpResponse, LiveSocket, Server, http_client};

/// The number of clients that send commands.
const DRIVERS: usize = 4;

/// The size of the load.
#[derive(Clone, Copy)]
pub struct LoadSize {
    pub sockets: usize,
    pub tasks: usize,
    pub cancels: usize,
    /// The least number of `counters` and `snapshot` frames on all sockets together.
    pub frames: usize,
}

/// The log, the frames and the responses of a run.
pub struct Observations {
    /// The whole log.
    pub log: String,
    /// For each socket: the query that says whose bell it gets, its filter, if it subscribed, and all its frames.
    pub sockets: Vec<(&'static str, Option<Value>, Vec<Value>)>,
    /// Responses of `GET /v1/counters` during the run.
    pub polls: Vec<Value>,
}

/// The shared state of a run.
struct LoadRun {
    server: Server,
    root: TempDir,
    size: LoadSize,
    /// The number of created tasks.
    created: AtomicUsize,
    /// The number of requests to cancel.
    cancelled: AtomicUsize,
    /// The number of `counters` frames on all sockets.
    frames: AtomicUsize,
    /// The positions at which the two final stages end. In each stage, every reader reads until a `counters` frame has
    /// this position or a later one.
    stage_ends: watch::Sender<Vec<u64>>,
    barrier: Barrier,
}

/// The filter of the subscription on this socket; `None` for a socket that receives only counters.
fn filter(socket: usize) -> Option<Value> {
    match socket % 10 {
        0 => Some(json!({"status": ["queued"]})),
        1 => Some(json!({"status": ["running", "cancelling"]})),
        2 => Some(json!({"kind": ["content.distribute"], "label": ["team:a"]})),
        3 => Some(json!({"owner": ["mira"], "status": ["cancelled", "succeeded"]})),
        _ => None,
    }
}

/// The query of this socket: most get the bell of everyone, which is also the default, and some that of the caller.
const fn bell(socket: usize) -> &'static str {
    match socket % 3 {
        0 => "",
        1 => "?owner=local",
        _ => "?owner=*",
    }
}

/// Runs the load. Waits until the server is idle and every socket has received the last counts.
pub async fn run(size: LoadSize) -> Observations {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("source")).unwrap();
    std::fs::write(root.path().join("source/page.html"), "<p>a tiny page</p>").unwrap();
    let run = Arc::new(LoadRun {
        server: Server::with_content(root.path(), None),
        root,
        size,
        created: AtomicUsize::new(0),
        cancelled: AtomicUsize::new(0),
        frames: AtomicUsize::new(0),
        stage_ends: watch::channel(Vec::new()).0,
        barrier: Barrier::new(size.sockets + 1),
    });
    let mut readers = JoinSet::new();
    for n in 0..size.sockets {
        let run = run.clone();
        readers.spawn(async move { read_frames(&run, bell(n), filter(n)).await });
    }
    run.barrier.wait().await;
    let mut drivers = JoinSet::new();
    for n in 0..DRIVERS {
        let run = run.clone();
        drivers.spawn(async move { run_driver(&run, n).await });
    }
    let mut polls = drivers.join_all().await.concat();
    wait_until_idle(&run.server).await;
    // There are two stages, because the hub may send the last frames of the load only after the first stage.
    for _ in 0..2 {
        let head = run.server.get("/v1/log/head").await.body["position"].clone();
        let response = run.server.post("/v1/bell/seen", &json!({"position": head})).await;
        assert_eq!(response.status, 204, "{}", response.text);
        run.stage_ends.send_modify(|stage_ends| stage_ends.push(head.as_u64().unwrap() + 1));
        run.barrier.wait().await;
        polls.push(run.server.get("/v1/counters").await.body);
    }
    let sockets = readers.join_all().await;
    let log = run.server.get("/v1/log").await.text;
    Observations { log, sockets, polls }
}

/// Waits until every task of the kinds that this server runs is final.
pub async fn wait_until_idle(server: &Server) {
    let mut live = LiveSocket::open(server).await;
    let kinds = ["content.distribute", "taskbell.bulk-cancel"];
    live.send(&json!({"type": "subscribe", "filter": {"kind": kinds}})).await;
    live.next_of_type("subscribed").await;
    loop {
        let path =
            format!("/v1/tasks?kind={}&limit=1&status=scheduled,queued,running,cancelling,retrying", kinds.join(","));
        if server.get(&path).await.body["total"] == 0 {
            return;
        }
        while !live.next().await["type"].as_str().unwrap().starts_with("tasks") {}
    }
}

/// Reads the frames of one socket until the run ends.
async fn read_frames(
    run: &LoadRun,
    bell: &'static str,
    filter: Option<Value>,
) -> (&'static str, Option<Value>, Vec<Value>) {
    let mut live = LiveSocket::open_path(&run.server, &format!("/v1/live{bell}")).await;
    let mut frames = vec![live.next().await, live.next().await];
    if let Some(filter) = &filter {
        live.send(&json!({"type": "subscribe", "filter": filter})).await;
        frames.push(live.next_of_type("subscribed").await);
    }
    let mut stage_ends = run.stage_ends.subscribe();
    run.barrier.wait().await;
    for stage in 0..2 {
        loop {
            let last = frames.iter().rev().find(|frame| frame["type"] == "counters");
            let reached = last.map_or(0, |frame| frame["position"].as_u64().unwrap());
            if stage_ends.borrow_and_update().get(stage).is_some_and(|end| reached >= *end) {
                break;
            }
            tokio::select! {
                frame = live.next() => {
                    run.frames.fetch_add(usize::from(frame["type"] == "counters"), Ordering::Relaxed);
                    frames.push(frame);
                }
                _ = stage_ends.changed() => {}
            }
        }
        live.send(&json!({"type": "resync"})).await;
        while frames.last().unwrap()["type"] != "snapshot" {
            frames.push(live.next().await);
        }
        run.barrier.wait().await;
    }
    (bell, filter, frames)
}

/// A client that sends commands.
struct Driver<'a> {
    run: &'a LoadRun,
    client: reqwest::Client,
    /// Its tasks that no worker takes.
    waiting: Vec<String>,
    /// Its tasks whose cancel was requested.
    cancelled: Vec<String>,
    /// Its tasks that copy a tree.
    copies: Vec<String>,
}

/// Sends commands until enough tasks, cancels and frames exist. Returns the polled counters.
async fn run_driver(run: &LoadRun, n: usize) -> Vec<Value> {
    let mut socket = LiveSocket::open(&run.server).await;
    let mut polls = Vec::new();
    let (client, size) = (http_client(), run.size);
    let mut driver = Driver { run, client, waiting: Vec::new(), cancelled: Vec::new(), copies: Vec::new() };
    for round in n.. {
        let creates_more = run.created.load(Ordering::Relaxed) < size.tasks;
        if creates_more {
            driver.create(round % 2 == 0).await;
        }
        let cancel_is_due =
            run.cancelled.load(Ordering::Relaxed) * size.tasks < size.cancels * run.created.load(Ordering::Relaxed);
        if !creates_more && !cancel_is_due && run.frames.load(Ordering::Relaxed) >= size.frames {
            break;
        }
        if cancel_is_due || !creates_more {
            driver.cancel(round % 3 == 0).await;
        }
        if round % 5 == 0 || !creates_more {
            driver.retry().await;
        }
        driver.wait_for_push(&mut socket).await;
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
    async fn post(&self, path: &str, body: &Value) -> HttpResponse {
        self.run.server.send(self.client.post(self.run.server.url() + path).json(body)).await
    }

    /// Creates one more task and waits until a pushed frame has reached its position.
    async fn wait_for_push(&mut self, socket: &mut LiveSocket) {
        let response = self.post("/v1/tasks", &json!({"kind": "nobody.mark"})).await;
        assert_eq!(response.status, 201, "{}", response.text);
        self.waiting.push(response.id());
        while socket.next_of_type("counters").await["position"].as_u64().unwrap() < response.position() {}
    }

    /// The body of a request for the next task.
    fn next_task(&self) -> Value {
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

    fn remember(&mut self, task: &Value, id: String) {
        let list = if task["kind"] == "content.distribute" { &mut self.copies } else { &mut self.waiting };
        list.push(id);
    }

    async fn create(&mut self, batch: bool) {
        let tasks: Vec<Value> = (0..3).map(|_| self.next_task()).collect();
        if batch {
            let answer = self.post("/v1/tasks/batch", &json!({"items": tasks})).await;
            for (task, item) in tasks.iter().zip(answer.body["items"].as_array().unwrap()) {
                self.remember(task, item["id"].as_str().expect("an id").to_owned());
            }
            return;
        }
        for task in &tasks {
            let answer = self.post("/v1/tasks", task).await;
            assert_eq!(answer.status, 201, "{}", answer.text);
            self.remember(task, answer.id());
        }
    }

    async fn cancel(&mut self, copy: bool) {
        let from = if copy && !self.copies.is_empty() { &mut self.copies } else { &mut self.waiting };
        let Some(id) = from.pop() else { return };
        let answer = self.post(&format!("/v1/tasks/{id}/cancel"), &json!({"reason": "not needed"})).await;
        assert!(matches!(answer.status, 200 | 202), "{}", answer.text);
        self.run.cancelled.fetch_add(1, Ordering::Relaxed);
        self.cancelled.push(id);
    }

    async fn retry(&mut self) {
        let Some(id) = self.cancelled.pop() else { return };
        let answer = self.post(&format!("/v1/tasks/{id}/retry"), &json!({})).await;
        assert!(matches!(answer.status, 202 | 409), "{}", answer.text);
        self.waiting.insert(0, id);
    }
}
