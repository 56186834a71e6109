//! Hostile clients against a server whose memory is limited to 256 MiB. The server lives, is ready throughout, and loses no
//! task whose creation it has acknowledged.
//!
//! Each attack lasts some seconds. With `TASKBELL_FULL=1` it lasts a minute, with more clients. With `TASKBELL_SECURE=1` all
//! clients connect by TLS and have tokens. `make hostile` runs both.

mod attacks;
mod clients;
mod memory;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::support::figures::{self, Latencies, sized};
use super::support::{Access, Server};
use clients::Connection;
use memory::MemoryLimit;

/// The memory of the server, in MiB.
const MEMORY_MIB: u64 = 256;
/// One attack at a time, because each of them may take all processors.
static TURN: Mutex<()> = Mutex::const_new(());
/// The server answers `/readyz` within this time, whatever happens. It only bounds a test that would fail anyway.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How the clients reach the server, and for how long they attack it.
#[derive(Clone, Copy, Debug)]
struct Attack {
    access: Access,
    duration: Duration,
}

impl Attack {
    /// By the environment.
    fn usual() -> Self {
        Self { access: Access::of_environment(), duration: Duration::from_secs(sized(4, 60) as u64) }
    }

    /// Of what an open server doesn't have: handshakes and tokens.
    fn on_secured() -> Self {
        Self { access: Access::Secured, duration: Duration::from_secs(sized(2, 60) as u64) }
    }

    /// Over TLS with tokens, for a moment.
    fn sample() -> Self {
        Self { access: Access::Secured, duration: Duration::from_millis(400) }
    }

    /// Runs `attack` on `clients` threads beside a healthy client, and asserts that the server withstands it. An attack is called
    /// again and again until the time is over.
    async fn withstand(
        self,
        server: &mut Server,
        name: &str,
        clients: usize,
        attack: impl Fn(&Server, usize, &AtomicBool) + Sync,
    ) {
        let _turn = TURN.lock().await;
        let limit = MemoryLimit::of(server.pid(), MEMORY_MIB);
        let before = figures::memory_mib(server);
        let mut healthy = self.run(server, clients, attack);
        let (peak, after) = (figures::peak_mib(server), figures::memory_mib(server));
        let figures = format!(
            "{name}: {before} MiB before, {peak} peak, {after} after{}; {} tasks acknowledged, {} refused; /readyz {}; creates {}",
            if limit.is_some() { ", in a limit" } else { ", without a limit of the machine" },
            healthy.acknowledged.len(),
            healthy.refused,
            healthy.ready.text(),
            healthy.creates.text(),
        );
        figures::report(self.access, &figures);
        assert!(peak <= MEMORY_MIB, "{name}: the server had {peak} MiB");
        assert!(!healthy.acknowledged.is_empty(), "{name}: the healthy client was starved");
        server.restart();
        drop(limit);
        let kept = healthy_tasks(server).await;
        let lost: Vec<_> = healthy.acknowledged.difference(&kept).collect();
        assert!(
            lost.is_empty(),
            "{name}: {} of {} acknowledged tasks are lost",
            lost.len(),
            healthy.acknowledged.len()
        );
    }

    fn run(self, server: &Server, clients: usize, attack: impl Fn(&Server, usize, &AtomicBool) + Sync) -> Healthy {
        let (is_over, attack) = (&AtomicBool::new(false), &attack);
        std::thread::scope(|scope| {
            for client in 0..clients {
                let attack_again = move || {
                    while !is_over.load(Ordering::Relaxed) {
                        attack(server, client, is_over);
                    }
                };
                std::thread::Builder::new()
                    .stack_size(1024 * 1024)
                    .spawn_scoped(scope, attack_again)
                    .expect("a thread");
            }
            let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watch(server, self.duration)));
            is_over.store(true, Ordering::Relaxed);
            watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// What the healthy client has seen during an attack.
#[derive(Debug, Default)]
struct Healthy {
    /// The tasks whose creation was acknowledged.
    acknowledged: HashSet<String>,
    /// How many creations were refused with a retryable problem.
    refused: usize,
    /// How long `/readyz` took, each time on a new connection.
    ready: Latencies,
    /// How long the creations took, also those that were refused.
    creates: Latencies,
}

/// The healthy client: creates tasks and asks whether the server is ready, until the attack is over.
fn watch(server: &Server, duration: Duration) -> Healthy {
    let (mut healthy, end) = (Healthy::default(), Instant::now() + duration);
    while Instant::now() < end || healthy.acknowledged.is_empty() && Instant::now() < end + READY_WITHIN {
        let begun = Instant::now();
        let ready = Connection::healthy(server).and_then(|mut client| client.get("/readyz", READY_WITHIN));
        let elapsed = begun.elapsed();
        let Ok((status, body)) = ready else { panic!("/readyz: {ready:?} after {elapsed:?}\n{}", server.stderr()) };
        assert_eq!(status, 200, "/readyz: {body}");
        healthy.ready.add(elapsed);
        healthy.create(server);
    }
    healthy
}

impl Healthy {
    fn create(&mut self, server: &Server) {
        let (begun, task) = (Instant::now(), json!({"kind": "healthy", "owner": "healthy"}).to_string());
        let created = Connection::healthy(server).and_then(|mut client| client.post("/v1/tasks", &task, READY_WITHIN));
        self.creates.add(begun.elapsed());
        match created {
            Ok((201, body)) => {
                let task: Value = serde_json::from_str(&body).expect("a task");
                self.acknowledged.insert(task["id"].as_str().expect("its id").to_owned());
            }
            Ok((429 | 503, body)) => {
                assert!(body.contains("\"retryable\":true"), "{body}");
                self.refused += 1;
            }
            other => panic!("a create: {other:?}"),
        }
    }
}

/// The ids of all tasks of the healthy client.
async fn healthy_tasks(server: &Server) -> HashSet<String> {
    let (mut ids, mut cursor) = (HashSet::new(), String::new());
    loop {
        let page = server.get(&format!("/v1/tasks?owner=healthy&limit=200{cursor}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let items = page.body["items"].as_array().expect("items");
        ids.extend(items.iter().map(|task| task["id"].as_str().expect("an id").to_owned()));
        match page.body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

/// Fills the log with `count` tasks of another owner, each with an input of this many bytes.
async fn fill(server: &Server, count: usize, input_bytes: usize) {
    let per_batch = (8 * 1024 * 1024 / (input_bytes + 200)).clamp(1, 1000);
    for from in (0..count).step_by(per_batch) {
        let item =
            |n| json!({"kind": "a", "owner": "many", "title": format!("task {n}"), "input": "x".repeat(input_bytes)});
        let items: Vec<Value> = (from..count.min(from + per_batch)).map(item).collect();
        let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}
