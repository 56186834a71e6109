//! A worker that is written from the contract alone. It sends each request to a random server, repeats the report of an
//! end until it gets a response, and never works on after its lease has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::record::{HeldLease, Record, ReportedEnd};
use super::server_pool::{ServerPool, pause};

pub const KINDS: [&str; 3] = ["soak.plain", "soak.ladder", "tick"];

pub struct Worker {
    pub name: String,
    pub servers: ServerPool,
    pub random: StdRng,
    pub record: Arc<Record>,
    /// The most leases that it holds at the same time.
    pub leases_at_once: usize,
    /// Its attempts, by lease.
    pub held: HashMap<String, Attempt>,
}

/// An attempt that is running, or whose end is not acknowledged yet.
pub struct Attempt {
    task: String,
    number: u64,
    kind: String,
    /// The index of its lease in the record.
    record_index: usize,
    until: Instant,
    /// The number of rounds until it ends.
    rounds: u32,
    seen: Option<String>,
    /// The worker sends neither heartbeats nor an end for it.
    is_forgotten: bool,
    ignores_cancel: bool,
    /// The item that reports its end, without the lease.
    end: Value,
    /// The work has stopped; only the end is not reported yet.
    is_done: bool,
}

impl Worker {
    pub async fn run(mut self) {
        loop {
            let got_responses = self.take().await & self.send_heartbeat().await & self.finish().await;
            if !got_responses {
                pause().await;
            }
        }
    }

    /// Takes leases; false if there was no response.
    async fn take(&mut self) -> bool {
        let free = self.leases_at_once.saturating_sub(self.held.len());
        if free == 0 {
            return true;
        }
        let wait = u8::from(self.held.is_empty());
        let body = json!({"worker": self.name, "kinds": KINDS, "max": free, "wait_s": wait});
        let sent = Instant::now();
        let Some(response) = self.servers.post_once(&mut self.random, "/v1/leases", &body).await else { return false };
        let leases = response.body["leases"].as_array().filter(|leases| leases.len() <= free);
        let Some(leases) = leases.filter(|_| response.status == 200) else {
            self.record.add_violation(format!("take of {free}: {} {}", response.status, response.body));
            return true;
        };
        for lease in leases {
            self.add_lease(lease, sent);
        }
        true
    }

    fn add_lease(&mut self, lease: &Value, sent: Instant) {
        let (task, number) = (text(&lease["task_id"]), lease["attempt"].as_u64().unwrap());
        let until = sent + Duration::from_millis(lease["left_ms"].as_u64().unwrap());
        let (worker, received_at) = (self.name.clone(), Instant::now());
        let held_lease =
            HeldLease { task: task.clone(), attempt: number, worker, received_at, expires_at: until, stopped: None };
        let record_index = self.record.with(|account| {
            account.held_leases.push(held_lease);
            account.held_leases.len() - 1
        });
        let random = &mut self.random;
        let rounds = if random.random_ratio(9, 10) { random.random_range(1..4) } else { random.random_range(4..20) };
        let end = match random.random_range(0..100) {
            0..92 => json!({"outcome": "succeeded", "message": "done", "result": {"rounds": rounds}}),
            92..96 => json!({"outcome": "failed", "error": {"code": "dice", "message": "the dice said so"}}),
            96 => {
                json!({"outcome": "failed", "error": {"code": "hopeless", "message": "for ever"}, "retryable": false})
            }
            _ => json!({"outcome": "released"}),
        };
        let attempt = Attempt {
            task,
            number,
            kind: text(&lease["kind"]),
            record_index,
            until,
            rounds,
            seen: None,
            is_forgotten: random.random_ratio(1, 300),
            ignores_cancel: random.random_ratio(1, 10),
            end,
            is_done: false,
        };
        self.held.insert(text(&lease["lease"]), attempt);
    }

    /// Sends a heartbeat for all attempts and handles the response; false if there was none.
    async fn send_heartbeat(&mut self) -> bool {
        let mut beats = Vec::new();
        for (lease, attempt) in self.held.iter().filter(|(_, attempt)| !attempt.is_forgotten && !attempt.is_done) {
            let progress = json!({"fraction": self.random.random::<f64>(), "message": "so far"});
            beats.push(json!({"lease": lease, "progress": progress, "seen": attempt.seen}));
        }
        let wait = [0.0, 0.01, 0.05, 0.3][self.random.random_range(0..4)];
        let body = json!({"worker": self.name, "leases": beats, "wait_s": wait});
        let sent = Instant::now();
        let response = self.servers.post_once(&mut self.random, "/v1/leases/heartbeat", &body).await;
        if let Some(response) = &response {
            if response.status == 200 {
                self.renew(&beats, &response.body, sent);
                self.acknowledge_cancels(&response.body).await;
            } else {
                self.record.add_violation(format!("heartbeat: {} {}", response.status, response.body));
            }
        }
        self.stop_expired_attempts();
        response.is_some()
    }

    /// Acknowledges a random half of the requests to cancel.
    async fn acknowledge_cancels(&mut self, answer: &Value) {
        for directive in answer["directives"].as_array().unwrap() {
            let lease = directive["lease"].as_str().unwrap();
            if !self.held.contains_key(lease) || self.random.random_ratio(1, 2) {
                continue;
            }
            let body = json!({"lease": lease, "stopping_after": "the last file"});
            let Some(response) = self.servers.post_once(&mut self.random, "/v1/leases/cancel-ack", &body).await else {
                continue;
            };
            let is_lost = response.status == 409 && response.body["code"] == "lease_lost";
            if response.status != 204 && !is_lost && directive["directive"] != "drain" {
                self.record.add_violation(format!("cancel-ack of {directive}: {} {}", response.status, response.body));
            }
        }
    }

    fn renew(&mut self, beats: &[Value], answer: &Value, sent: Instant) {
        for directive in answer["directives"].as_array().unwrap() {
            self.handle_directive(directive["lease"].as_str().unwrap(), directive["directive"].as_str().unwrap());
        }
        let Some(left) = answer["left_ms"].as_u64() else { return };
        let until = sent + Duration::from_millis(left);
        let now = Instant::now();
        for lease in beats.iter().map(|beat| beat["lease"].as_str().unwrap()) {
            // An attempt whose lease has expired stays stopped.
            if let Some(attempt) = self.held.get_mut(lease).filter(|attempt| attempt.until > now) {
                attempt.until = attempt.until.max(until);
                self.record.with(|account| account.held_leases[attempt.record_index].expires_at = attempt.until);
            }
        }
    }

    fn handle_directive(&mut self, lease: &str, directive: &str) {
        let Some(attempt) = self.held.get_mut(lease) else { return };
        if directive == "lost" {
            attempt.stop(&self.record);
            self.held.remove(lease);
        } else if directive != "drain" && attempt.seen.as_deref() != Some(directive) {
            attempt.seen = self.random.random_ratio(4, 5).then(|| directive.to_owned());
            if attempt.ignores_cancel {
                // A task with a ladder runs until its lease is revoked; any other task runs to its end.
                attempt.rounds = if attempt.kind == "soak.ladder" { 1000 } else { attempt.rounds };
                return;
            }
            attempt.end = json!({"outcome": "cancelled", "message": "stopped half-way"});
            attempt.rounds = attempt.rounds.min(1);
        }
    }

    /// Stops the attempts whose leases have expired, and reports them as released, which a server may still accept.
    fn stop_expired_attempts(&mut self) {
        let now = Instant::now();
        for attempt in self.held.values_mut().filter(|attempt| !attempt.is_done && attempt.until <= now) {
            attempt.stop(&self.record);
            attempt.is_done = true;
            attempt.end = json!({"outcome": "released"});
        }
        self.held.retain(|_, attempt| !(attempt.is_forgotten && attempt.is_done));
    }

    /// Reports the ends of attempts; false if there was no response.
    async fn finish(&mut self) -> bool {
        for attempt in self.held.values_mut().filter(|attempt| !attempt.is_forgotten && !attempt.is_done) {
            attempt.rounds -= 1;
            if attempt.rounds == 0 {
                attempt.stop(&self.record);
                attempt.is_done = true;
            }
        }
        let done = self.held.iter().filter(|(_, attempt)| attempt.is_done);
        let items: Vec<Value> = done.map(|(lease, attempt)| with_lease(&attempt.end, lease)).collect();
        if items.is_empty() {
            return true;
        }
        let Some(answers) = self.report(&items).await else { return false };
        let reported: Vec<(Value, String)> = items
            .into_iter()
            .zip(answers)
            .filter_map(|(item, answer)| Some((item, self.final_outcome(&answer)?)))
            .collect();
        if self.random.random_ratio(1, 5) {
            self.report_again(&reported).await;
        }
        for (item, response) in reported {
            let Some(attempt) = self.held.remove(item["lease"].as_str().unwrap()) else { continue };
            let worker = self.name.clone();
            self.record.add_end(ReportedEnd { task: attempt.task, attempt: attempt.number, worker, response });
        }
        true
    }

    /// Reports the ends again with another outcome, and checks that the responses are the same as before.
    async fn report_again(&mut self, reported: &[(Value, String)]) {
        let other = json!({"outcome": "failed", "error": {"code": "no", "message": "no"}});
        let items: Vec<Value> =
            reported.iter().map(|(item, _)| with_lease(&other, item["lease"].as_str().unwrap())).collect();
        let Some(answers) = self.report(&items).await else { return };
        for ((item, first), answer) in reported.iter().zip(answers) {
            if let Some(second) = self.final_outcome(&answer).filter(|second| second != first) {
                self.record.add_violation(format!("{item}: first {first}, then {second}"));
            }
        }
    }

    async fn report(&mut self, items: &[Value]) -> Option<Vec<Value>> {
        if items.is_empty() {
            return None;
        }
        let body = json!({"items": items});
        let response = self.servers.post_once(&mut self.random, "/v1/leases/finish", &body).await?;
        let answers = response.body["items"].as_array().filter(|answers| answers.len() == items.len()).cloned();
        if answers.is_none() {
            self.record.add_violation(format!("finish: {} {}", response.status, response.body));
        }
        answers
    }

    /// The outcome in the response for one attempt; `None` if the report must be repeated.
    fn final_outcome(&self, answer: &Value) -> Option<String> {
        if let Some(status) = answer["status"].as_str() {
            return Some(status.to_owned());
        }
        let problem = &answer["problem"];
        if problem["code"] == "lease_lost" {
            return Some("lease_lost".to_owned());
        }
        if problem["status"] != 503 {
            self.record.add_violation(format!("finish of {}: {answer}", self.name));
        }
        None
    }
}

impl Attempt {
    fn stop(&self, record: &Record) {
        let now = Instant::now();
        record.with(|account| _ = account.held_leases[self.record_index].stopped.get_or_insert(now));
    }
}

fn with_lease(end: &Value, lease: &str) -> Value {
    let mut item = end.clone();
    item["lease"] = json!(lease);
    item
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
