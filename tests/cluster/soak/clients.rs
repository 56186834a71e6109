//! The clients of the soak test. They create, cancel and retry tasks, and send each request to a random server.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::Method;
use serde_json::{Value, json};

use super::record::Record;
use super::server_pool::{Request, ServerPool, ServerResponse, pause};

const TASKS: &str = "/v1/tasks";
/// The number of tasks that a client creates in one batch, or one by one, before it chooses again.
const CHUNK: usize = 50;
/// The number of different unique keys.
const UNIQUE_KEYS: usize = 31;

pub struct Client {
    pub servers: ServerPool,
    pub random: StdRng,
    pub record: Arc<Record>,
}

impl Client {
    /// Creates the tasks with these numbers.
    pub async fn create(mut self, numbers: std::ops::Range<usize>) {
        for chunk in numbers.collect::<Vec<_>>().chunks(CHUNK) {
            if self.random.random_ratio(2, 3) {
                self.create_batch(chunk).await;
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

    /// Repeats a batch at random servers until no item is refused with status 503. Some items also have unique keys.
    async fn create_batch(&mut self, chunk: &[usize]) {
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
            let response = self.servers.send(&mut self.random, request).await;
            let answers = response.body["items"].as_array().filter(|_| response.status == 200);
            let Some(answers) = answers else { return self.violation("a batch", &response) };
            let mut is_complete = true;
            for (n, answer) in chunk.iter().zip(answers) {
                match answer["id"].as_str() {
                    // After the task has ended, the same item may create another task.
                    Some(id) if has_unique_key(*n) => self.record_unique_key_task(id),
                    Some(id) => self.record_created(*n, id),
                    None if answer["problem"]["status"] == 503 => is_complete = false,
                    None => {
                        self.violation("an item", &ServerResponse { status: 200, position: 0, body: answer.clone() });
                    }
                }
            }
            // Some batches are repeated although they are complete.
            if is_complete && self.random.random_ratio(3, 4) {
                return;
            }
            pause().await;
        }
    }

    /// Sends a request without a key once. Without a response, the task may exist or not, but it must not exist twice.
    async fn create_once(&mut self, n: usize) {
        let body = self.body(n);
        match self.servers.post_once(&mut self.random, TASKS, &body).await {
            Some(response) => self.accept(n, &response, &[201]).await,
            None => self.record.with(|account| account.unknown.push(n)),
        }
    }

    /// Repeats the request until it gets a response. The task in it may belong to another request with the same key.
    async fn create_unique(&mut self, n: usize) {
        let mut body = self.body(n);
        body["unique_key"] = json!(unique_key(n));
        let request = Request { method: &Method::POST, path: TASKS, body: Some(&body), idempotency_key: None };
        let response = self.servers.send(&mut self.random, request).await;
        if let (200 | 201, Some(id)) = (response.status, response.body["id"].as_str()) {
            self.record_unique_key_task(id);
            return self.read_at_another_server(&response).await;
        }
        self.violation("a create with a unique key", &response);
    }

    /// Repeats the request until it gets a response. Sometimes sends it to two servers at the same time, or again
    /// afterwards.
    async fn create_with_key(&mut self, n: usize) {
        let (body, key) = (self.body(n), format!("single {n}"));
        let request = Request { method: &Method::POST, path: TASKS, body: Some(&body), idempotency_key: Some(&key) };
        let mut other = StdRng::seed_from_u64(self.random.random());
        let both = self.random.random_ratio(1, 6);
        let second = async {
            if both {
                return Some(self.servers.send(&mut other, request).await);
            }
            None
        };
        let (first, second) = tokio::join!(self.servers.send(&mut self.random, request), second);
        self.accept(n, &first, &[200, 201]).await;
        if let Some(second) = second {
            self.accept(n, &second, &[200, 201]).await;
        }
        if self.random.random_ratio(1, 6) {
            let repeated = self.servers.send(&mut self.random, request).await;
            self.accept(n, &repeated, &[200]).await;
        }
    }

    async fn accept(&mut self, n: usize, response: &ServerResponse, statuses: &[u16]) {
        let Some(id) = response.body["id"].as_str().filter(|_| statuses.contains(&response.status)) else {
            return self.violation(&format!("create {n}"), response);
        };
        self.record_created(n, id);
        self.read_at_another_server(response).await;
    }

    /// Reads some tasks at a random server, at the position of the response. The server must return the task or respond
    /// 503.
    async fn read_at_another_server(&mut self, created: &ServerResponse) {
        if !self.random.random_ratio(1, 5) {
            return;
        }
        let path = format!("{TASKS}/{}?min_position={}", created.body["id"].as_str().unwrap(), created.position);
        let request = Request { method: &Method::GET, path: &path, body: None, idempotency_key: None };
        if let Some(read) = self.servers.send_once(&mut self.random, request).await.filter(|read| read.status != 200) {
            self.violation(&format!("the read of a created task at {}", created.position), &read);
        }
    }

    fn record_created(&self, n: usize, id: &str) {
        self.record.with(|account| account.created.entry(n).or_default().push(id.to_owned()));
    }

    fn record_unique_key_task(&self, id: &str) {
        self.record.with(|account| account.unique_key_tasks.push(id.to_owned()));
    }

    fn violation(&self, what: &str, response: &ServerResponse) {
        self.record.add_violation(format!("{what}: {} {}", response.status, response.body));
    }

    /// Cancels `times` tasks, most of them while they run. Also retries some that have ended, and reads the counters.
    pub async fn cancel_and_retry(mut self, times: usize) {
        let (mut cancelled, mut alive) = (0, Vec::new());
        while cancelled < times {
            self.read_counters().await;
            if alive.is_empty() {
                alive = self.list("running,cancelling,queued").await;
            }
            let retry = self.random.random_ratio(1, 4);
            let (what, id) = match alive.pop() {
                Some(id) if !retry => ("cancel", Some(id)),
                // If every task has ended, the remaining cancels change nothing.
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
            let response = self.servers.send(&mut self.random, request).await;
            match (what, response.status) {
                (_, 200 | 202) => self.record.with(|account| account.changed_tasks.push(response.body)),
                ("retry", 409) => {}
                _ => self.violation(&path, &response),
            }
            cancelled += usize::from(!retry);
        }
    }

    async fn read_counters(&mut self) {
        let request = Request { method: &Method::GET, path: "/v1/counters", body: None, idempotency_key: None };
        if let Some(response) = self.servers.send_once(&mut self.random, request).await {
            self.record.with(|account| account.counters.push(response.body));
        }
    }

    async fn list(&mut self, statuses: &str) -> Vec<String> {
        let order = ["asc", "desc"][self.random.random_range(0..2)];
        let path = format!("{TASKS}?status={statuses}&limit=5&order={order}");
        let request = Request { method: &Method::GET, path: &path, body: None, idempotency_key: None };
        let page = self.servers.send(&mut self.random, request).await;
        let items = page.body["items"].as_array().unwrap_or_else(|| panic!("{} {}", page.status, page.body));
        items.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// Whether the item with this number in a batch has a unique key.
const fn has_unique_key(n: usize) -> bool {
    n.is_multiple_of(10)
}

fn unique_key(n: usize) -> String {
    format!("unique {}", n % UNIQUE_KEYS)
}
