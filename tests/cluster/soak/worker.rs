//! A worker that is written from the contract alone. It sends each request to a random server, reports the ends of its
//! attempts until they are answered, and works no longer than the servers let it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::net::{Net, pause};
use super::record::{End, Hold, Record};

pub const KINDS: [&str; 3] = ["soak.plain", "soak.ladder", "tick"];

pub struct Worker {
    pub name: String,
    pub net: Net,
    pub random: StdRng,
    pub record: Arc<Record>,
    /// How many leases it holds at once.
    pub at_once: usize,
    /// What it holds, by lease.
    pub held: HashMap<String, Attempt>,
}

/// An attempt under way.
pub struct Attempt {
    task: String,
    number: u64,
    kind: String,
    /// Its place in the record.
    hold: usize,
    until: Instant,
    /// How many rounds it takes.
    rounds: u32,
    seen: Option<String>,
    /// The worker sends nothing for it any more.
    is_forgotten: bool,
    ignores_cancel: bool,
    /// The body of its finish, without the lease.
    end: Value,
    /// The worker has stopped; only the report of the end remains.
    is_done: bool,
}

impl Worker {
    pub async fn run(mut self) {
        loop {
            let is_reached = self.take().await & self.beat().await & self.finish().await;
            if !is_reached {
                pause().await;
            }
        }
    }

    async fn take(&mut self) -> bool {
        let room = self.at_once.saturating_sub(self.held.len());
        if room == 0 {
            return true;
        }
        let wait = u8::from(self.held.is_empty());
        let body = json!({"worker": self.name, "kinds": KINDS, "max": room, "wait_s": wait});
        let sent = Instant::now();
        let Some(reply) = self.net.post_once(&mut self.random, "/v1/leases", &body).await else { return false };
        let leases = reply.body["leases"].as_array().filter(|leases| leases.len() <= room);
        let Some(leases) = leases.filter(|_| reply.status == 200) else {
            self.record.violation(format!("take of {room}: {} {}", reply.status, reply.body));
            return true;
        };
        for lease in leases {
            self.hold(lease, sent);
        }
        true
    }

    fn hold(&mut self, lease: &Value, sent: Instant) {
        let (task, number) = (text(&lease["task_id"]), lease["attempt"].as_u64().unwrap());
        let until = sent + Duration::from_millis(lease["left_ms"].as_u64().unwrap());
        let (worker, from) = (self.name.clone(), Instant::now());
        let hold = Hold { task: task.clone(), attempt: number, worker, from, until, stopped: None };
        let hold = self.record.with(|account| {
            account.holds.push(hold);
            account.holds.len() - 1
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
            hold,
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

    async fn beat(&mut self) -> bool {
        let mut beats = Vec::new();
        for (lease, attempt) in self.held.iter().filter(|(_, attempt)| !attempt.is_forgotten && !attempt.is_done) {
            let progress = json!({"fraction": self.random.random::<f64>(), "message": "so far"});
            beats.push(json!({"lease": lease, "progress": progress, "seen": attempt.seen}));
        }
        let wait = [0.0, 0.01, 0.05, 0.3][self.random.random_range(0..4)];
        let body = json!({"worker": self.name, "leases": beats, "wait_s": wait});
        let sent = Instant::now();
        let reply = self.net.post_once(&mut self.random, "/v1/leases/heartbeat", &body).await;
        if let Some(reply) = &reply {
            if reply.status == 200 {
                self.renew(&beats, &reply.body, sent);
                self.acknowledge_cancels(&reply.body).await;
            } else {
                self.record.violation(format!("heartbeat: {} {}", reply.status, reply.body));
            }
        }
        self.stop_in_time();
        reply.is_some()
    }

    /// Acknowledges some requests to cancel.
    async fn acknowledge_cancels(&mut self, answer: &Value) {
        for directive in answer["directives"].as_array().unwrap() {
            let lease = directive["lease"].as_str().unwrap();
            if !self.held.contains_key(lease) || self.random.random_ratio(1, 2) {
                continue;
            }
            let body = json!({"lease": lease, "stopping_after": "the last file"});
            let Some(reply) = self.net.post_once(&mut self.random, "/v1/leases/cancel-ack", &body).await else {
                continue;
            };
            let is_lost = reply.status == 409 && reply.body["code"] == "lease_lost";
            if reply.status != 204 && !is_lost && directive["directive"] != "drain" {
                self.record.violation(format!("cancel-ack of {directive}: {} {}", reply.status, reply.body));
            }
        }
    }

    fn renew(&mut self, beats: &[Value], answer: &Value, sent: Instant) {
        for directive in answer["directives"].as_array().unwrap() {
            self.direct(directive["lease"].as_str().unwrap(), directive["directive"].as_str().unwrap());
        }
        let Some(left) = answer["left_ms"].as_u64() else { return };
        let until = sent + Duration::from_millis(left);
        let now = Instant::now();
        for lease in beats.iter().map(|beat| beat["lease"].as_str().unwrap()) {
            // What has run out is not taken up again.
            if let Some(attempt) = self.held.get_mut(lease).filter(|attempt| attempt.until > now) {
                attempt.until = attempt.until.max(until);
                self.record.with(|account| account.holds[attempt.hold].until = attempt.until);
            }
        }
    }

    fn direct(&mut self, lease: &str, directive: &str) {
        let Some(attempt) = self.held.get_mut(lease) else { return };
        if directive == "lost" {
            attempt.stop(&self.record);
            self.held.remove(lease);
        } else if directive != "drain" && attempt.seen.as_deref() != Some(directive) {
            attempt.seen = self.random.random_ratio(4, 5).then(|| directive.to_owned());
            if attempt.ignores_cancel {
                // On the ladder until the lease is revoked; else until it is done.
                attempt.rounds = if attempt.kind == "soak.ladder" { 1000 } else { attempt.rounds };
                return;
            }
            attempt.end = json!({"outcome": "cancelled", "message": "stopped half-way"});
            attempt.rounds = attempt.rounds.min(1);
        }
    }

    /// Stops the attempts whose time is over, and hands them back where a server still takes that.
    fn stop_in_time(&mut self) {
        let now = Instant::now();
        for attempt in self.held.values_mut().filter(|attempt| !attempt.is_done && attempt.until <= now) {
            attempt.stop(&self.record);
            attempt.is_done = true;
            attempt.end = json!({"outcome": "released"});
        }
        self.held.retain(|_, attempt| !(attempt.is_forgotten && attempt.is_done));
    }

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
        let settled: Vec<(Value, String)> =
            items.into_iter().zip(answers).filter_map(|(item, answer)| Some((item, self.settled(&answer)?))).collect();
        if self.random.random_ratio(1, 5) {
            self.report_again(&settled).await;
        }
        for (item, answer) in settled {
            let Some(attempt) = self.held.remove(item["lease"].as_str().unwrap()) else { continue };
            let worker = self.name.clone();
            self.record.ended(End { task: attempt.task, attempt: attempt.number, worker, answer });
        }
        true
    }

    /// Reports the ends once more, with another outcome: the answers stay the same.
    async fn report_again(&mut self, settled: &[(Value, String)]) {
        let other = json!({"outcome": "failed", "error": {"code": "no", "message": "no"}});
        let items: Vec<Value> =
            settled.iter().map(|(item, _)| with_lease(&other, item["lease"].as_str().unwrap())).collect();
        let Some(answers) = self.report(&items).await else { return };
        for ((item, first), answer) in settled.iter().zip(answers) {
            if let Some(second) = self.settled(&answer).filter(|second| second != first) {
                self.record.violation(format!("{item}: first {first}, then {second}"));
            }
        }
    }

    async fn report(&mut self, items: &[Value]) -> Option<Vec<Value>> {
        if items.is_empty() {
            return None;
        }
        let body = json!({"items": items});
        let reply = self.net.post_once(&mut self.random, "/v1/leases/finish", &body).await?;
        let answers = reply.body["items"].as_array().filter(|answers| answers.len() == items.len()).cloned();
        if answers.is_none() {
            self.record.violation(format!("finish: {} {}", reply.status, reply.body));
        }
        answers
    }

    /// The answer for one attempt; none where it may change.
    fn settled(&self, answer: &Value) -> Option<String> {
        if let Some(status) = answer["status"].as_str() {
            return Some(status.to_owned());
        }
        let problem = &answer["problem"];
        if problem["code"] == "lease_lost" {
            return Some("lease_lost".to_owned());
        }
        if problem["status"] != 503 {
            self.record.violation(format!("finish of {}: {answer}", self.name));
        }
        None
    }
}

impl Attempt {
    fn stop(&self, record: &Record) {
        let now = Instant::now();
        record.with(|account| _ = account.holds[self.hold].stopped.get_or_insert(now));
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
