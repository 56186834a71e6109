//! Clients of a run: they create, cancel and retry tasks, each request at a random server.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::net::{Net, Reply, Request, pause};
use super::record::Record;

const TASKS: &str = "/v1/tasks";
/// Requests that go together or one by one.
const CHUNK: usize = 50;
/// How many unique keys there are.
const UNIQUE_KEYS: usize = 31;

pub struct Client {
    pub net: Net,
    pub random: StdRng,
    pub record: Arc<Record>,
}

impl Client {
    /// Creates the tasks with these numbers.
    pub async fn create(mut self, numbers: std::ops::Range<usize>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(CHUNK) {
            if self.random.random_ratio(2, 3) {
                self.create_together(chunk).await;
                continue;
            }
            for n in chunk {
                match self.random.random_range(0..10) {
                    0 => self.create_once(*n).await,
                    1..4 => self.create_unique(*n).await,
                    _ => self.create_with_key(*n).await,
                }
            }
        }
    }

    fn body(&mut self, n: usize) -> Value {
        let kind = if self.random.random_ratio(1, 5) { "soak.ladder" } else { "soak.plain" };
        json!({"kind": kind, "title": n.to_string(), "max_attempts": 20, "queue": format!("q{}", n % 3),
               "priority": n % 2, "input": {"n": n}})
    }

    /// Sends a batch until all its items are answered, at a random server each time. Some items have unique keys too.
    async fn create_together(&mut self, chunk: &[usize]) {
        let mut items = Vec::new();
        for n in chunk {
            let mut item = self.body(*n);
            item["idempotency_key"] = json!(format!("batch {n}"));
            if has_unique_key(*n) {
                item["unique_key"] = json!(unique_key(*n));
            }
            items.push(item);
        }
        let body = json!({"items": items});
        let path = format!("{TASKS}/batch");
        let request = Request { method: &Method::POST, path: &path, body: Some(&body), idempotency_key: None };
        loop {
            let reply = self.net.send(&mut self.random, request).await;
            let answers = reply.body["items"].as_array().filter(|_| reply.status == 200);
            let Some(answers) = answers else { return self.violation("a batch", &reply) };
            let mut is_complete = true;
            for (n, answer) in chunk.iter().zip(answers) {
                match answer["id"].as_str() {
                    // Once its task has ended, the same item may create another one.
                    Some(id) if has_unique_key(*n) => self.found(id),
                    Some(id) => self.created(*n, id),
                    None if answer["problem"]["status"] == 503 => is_complete = false,
                    None => self.violation("an item", &Reply { status: 200, position: 0, body: answer.clone() }),
                }
            }
            // Some complete batches are repeated too.
            if is_complete && self.random.random_ratio(3, 4) {
                return;
            }
            pause().await;
        }
    }

    /// Sends a request without a key once: the task may exist although there is no answer, but never twice.
    async fn create_once(&mut self, n: usize) {
        let body = self.body(n);
        match self.net.post_once(&mut self.random, TASKS, &body).await {
            Some(reply) => self.accept(n, &reply, &[201]).await,
            None => self.record.with(|account| account.unknown.push(n)),
        }
    }

    /// Repeats the request until it is answered; the task that holds the key may be another request's.
    async fn create_unique(&mut self, n: usize) {
        let mut body = self.body(n);
        body["unique_key"] = json!(unique_key(n));
        let request = Request { method: &Method::POST, path: TASKS, body: Some(&body), idempotency_key: None };
        let reply = self.net.send(&mut self.random, request).await;
        if let (200 | 201, Some(id)) = (reply.status, reply.body["id"].as_str()) {
            self.found(id);
            return self.read_elsewhere(&reply).await;
        }
        self.violation("a create with a unique key", &reply);
    }

    /// Repeats the request until it is answered, and sometimes at two servers at once or afterwards.
    async fn create_with_key(&mut self, n: usize) {
        let (body, key) = (self.body(n), format!("single {n}"));
        let request = Request { method: &Method::POST, path: TASKS, body: Some(&body), idempotency_key: Some(&key) };
        let mut other = StdRng::seed_from_u64(self.random.random());
        let both = self.random.random_ratio(1, 6);
        let second = async {
            if both {
                return Some(self.net.send(&mut other, request).await);
            }
            None
        };
        let (first, second) = tokio::join!(self.net.send(&mut self.random, request), second);
        self.accept(n, &first, &[200, 201]).await;
        if let Some(second) = second {
            self.accept(n, &second, &[200, 201]).await;
        }
        if self.random.random_ratio(1, 6) {
            let repeated = self.net.send(&mut self.random, request).await;
            self.accept(n, &repeated, &[200]).await;
        }
    }

    async fn accept(&mut self, n: usize, reply: &Reply, statuses: &[u16]) {
        let Some(id) = reply.body["id"].as_str().filter(|_| statuses.contains(&reply.status)) else {
            return self.violation(&format!("create {n}"), reply);
        };
        self.created(n, id);
        self.read_elsewhere(reply).await;
    }

    /// Reads some tasks at the position of the answer, at any server: a server whose views are behind refuses for now.
    async fn read_elsewhere(&mut self, created: &Reply) {
        if !self.random.random_ratio(1, 5) {
            return;
        }
        let path = format!("{TASKS}/{}?min_position={}", created.body["id"].as_str().unwrap(), created.position);
        let request = Request { method: &Method::GET, path: &path, body: None, idempotency_key: None };
        if let Some(read) = self.net.once(&mut self.random, request).await.filter(|read| read.status != 200) {
            self.violation(&format!("the read of a created task at {}", created.position), &read);
        }
    }

    fn created(&self, n: usize, id: &str) {
        self.record.with(|account| account.created.entry(n).or_default().push(id.to_owned()));
    }

    fn found(&self, id: &str) {
        self.record.with(|account| account.found.push(id.to_owned()));
    }

    fn violation(&self, what: &str, reply: &Reply) {
        self.record.violation(format!("{what}: {} {}", reply.status, reply.body));
    }

    /// Cancels so many tasks, most of them while they run, retries some that have ended, and reads the counters.
    pub async fn turn(mut self, times: usize) {
        let (mut cancelled, mut alive) = (0, Vec::new());
        while cancelled < times {
            self.read_counters().await;
            if alive.is_empty() {
                alive = self.list("running,cancelling,queued").await;
            }
            let retry = self.random.random_ratio(1, 4);
            let (what, id) = match alive.pop() {
                Some(id) if !retry => ("cancel", Some(id)),
                // Where every task has ended, the cancels change nothing.
                _ => {
                    let ended = self.list("failed,cancelled,succeeded").await;
                    (if retry { "retry" } else { "cancel" }, ended.choose(&mut self.random).cloned())
                }
            };
            let Some(id) = id else {
                pause().await;
                continue;
            };
            let path = format!("{TASKS}/{id}/{what}");
            let body = json!({});
            let request = Request { method: &Method::POST, path: &path, body: Some(&body), idempotency_key: None };
            let reply = self.net.send(&mut self.random, request).await;
            match (what, reply.status) {
                (_, 200 | 202) => self.record.with(|account| account.turned.push(reply.body)),
                ("retry", 409) => {}
                _ => self.violation(&path, &reply),
            }
            cancelled += usize::from(!retry);
        }
    }

    async fn read_counters(&mut self) {
        let request = Request { method: &Method::GET, path: "/v1/counters", body: None, idempotency_key: None };
        if let Some(reply) = self.net.once(&mut self.random, request).await {
            self.record.with(|account| account.counters.push(reply.body));
        }
    }

    async fn list(&mut self, statuses: &str) -> Vec<String> {
        let order = ["asc", "desc"][self.random.random_range(0..2)];
        let path = format!("{TASKS}?status={statuses}&limit=5&order={order}");
        let request = Request { method: &Method::GET, path: &path, body: None, idempotency_key: None };
        let page = self.net.send(&mut self.random, request).await;
        let items = page.body["items"].as_array().unwrap_or_else(|| panic!("{} {}", page.status, page.body));
        items.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether the item of a batch has one.
const fn has_unique_key(n: usize) -> bool {
    n.is_multiple_of(10)
}

fn unique_key(n: usize) -> String {
    format!("unique {}", n % UNIQUE_KEYS)
}
