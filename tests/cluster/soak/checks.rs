//! Compares the log with the responses that workers and clients received, and with the servers' views.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use uuid::Uuid;

use super::record::{Account, HeldLease};
use crate::worker_soak::checker::Checker;

const MINUTE_MS: u64 = 60_000;

/// Facts from the log that [`Checker`] doesn't collect.
#[derive(Default)]
struct LogFacts {
    /// The worker of each attempt.
    started: HashMap<(String, u64), String>,
    /// The titles of the tasks without unique keys. A title is the number of the request that created the task.
    titles: HashSet<String>,
    idempotency_keys: HashSet<String>,
    /// The unique key of each task.
    unique_keys: HashMap<String, String>,
    /// The id of the task that is not final, by unique key.
    holders: HashMap<String, String>,
    /// The nominal times of the runs of each schedule, in minutes since 1970.
    runs: BTreeMap<String, BTreeSet<u64>>,
}

/// Reads a log, and compares it with the account.
pub fn check(log: &str, account: &Account) -> Checker {
    let mut facts = LogFacts::default();
    let mut shown = by_position(&account.counters);
    let checker = Checker::check_each(log, |checker, line| {
        facts.add(checker, &serde_json::from_str(line).unwrap());
        for counts in shown.remove(&checker.events).into_iter().flatten() {
            check_counts(checker, &counts);
        }
    });
    shown.remove(&0);
    assert!(shown.is_empty(), "counters of positions beyond the log: {:?}", shown.keys());
    for (id, task) in &checker.tasks {
        assert_eq!(task.why_not_ended(), None, "{id} is left: {:?}", task.statuses);
    }
    facts.check_runs();
    check_creates(&checker, &facts, account);
    check_changed_tasks(&checker, account);
    check_ends(&checker, account);
    facts.check_held_leases(&account.held_leases);
    checker
}

/// Asserts that the counters equal those of the checker.
pub fn check_counts(checker: &Checker, counts: &Value) {
    let fold = checker.counts();
    for (status, count) in counts.as_object().unwrap() {
        let expected = fold.get(&**status).copied().unwrap_or(0);
        assert_eq!(*count, expected, "{status} at {}: {counts}", checker.events);
    }
}

fn by_position(counters: &[Value]) -> HashMap<u64, Vec<Value>> {
    let mut shown: HashMap<u64, Vec<Value>> = HashMap::new();
    for answer in counters {
        shown.entry(answer["position"].as_u64().unwrap()).or_default().push(answer["counts"].clone());
    }
    shown
}

impl LogFacts {
    fn add(&mut self, checker: &Checker, event: &Value) {
        let Some(id) = event["stream"].as_str().unwrap().strip_prefix("task-") else { return };
        let data = &event["data"];
        match event["type"].as_str().unwrap() {
            "Created" => self.created(id, data),
            "Started" => {
                let worker = data["worker"].as_str().unwrap().to_owned();
                let former = self.started.insert((id.to_owned(), data["attempt"].as_u64().unwrap()), worker);
                assert_eq!(former, None, "attempt {} of {id} has started twice", data["attempt"]);
            }
            _ => {}
        }
        self.check_unique_key(checker, id);
    }

    fn created(&mut self, id: &str, data: &Value) {
        if let Some(key) = data["idempotency"]["key"].as_str() {
            assert!(self.idempotency_keys.insert(key.to_owned()), "two tasks have the idempotency key {key}");
        }
        if let Some(key) = data["unique_key"].as_str() {
            self.unique_keys.insert(id.to_owned(), key.to_owned());
        } else if let Some(schedule) = data["schedule"].as_str() {
            let (seconds, nanos) = id.parse::<Uuid>().unwrap().get_timestamp().unwrap().to_unix();
            let millis = seconds * 1000 + u64::from(nanos / 1_000_000);
            assert_eq!(millis % MINUTE_MS, 0, "{id} is a run at no full minute");
            let is_new = self.runs.entry(schedule.to_owned()).or_default().insert(millis / MINUTE_MS);
            assert!(is_new, "the run {id} of {schedule} exists twice");
        } else {
            assert!(self.titles.insert(data["title"].as_str().unwrap().to_owned()), "a request has two tasks: {data}");
        }
    }

    /// Asserts that at each position at most one task with the same unique key is not final.
    fn check_unique_key(&mut self, checker: &Checker, id: &str) {
        let Some(key) = self.unique_keys.get(id) else { return };
        let status = checker.tasks[id].status();
        if matches!(status, "succeeded" | "failed" | "cancelled") {
            if self.holders.get(key).is_some_and(|holder| holder == id) {
                self.holders.remove(key);
            }
            return;
        }
        let holder = self.holders.entry(key.clone()).or_insert_with(|| id.to_owned());
        assert_eq!(holder, id, "two tasks with the unique key {key} are not final at {}", checker.events);
    }

    /// Asserts that each schedule has created all runs of at least an hour.
    fn check_runs(&self) {
        for (schedule, runs) in &self.runs {
            let (first, last) = (runs.first().unwrap(), runs.last().unwrap());
            assert_eq!(runs.len() as u64, last - first + 1, "{schedule} has gaps: {runs:?}");
            assert!(runs.len() >= 60, "{schedule} has {} runs", runs.len());
        }
    }

    /// Asserts that no two workers held leases of the same task at the same time, by the workers' own records.
    fn check_held_leases(&self, held_leases: &[HeldLease]) {
        let mut by_task: HashMap<&str, Vec<&HeldLease>> = HashMap::new();
        for hold in held_leases {
            let started = self.started.get(&(hold.task.clone(), hold.attempt));
            assert_eq!(started, Some(&hold.worker), "attempt {} of {}", hold.attempt, hold.task);
            by_task.entry(&hold.task).or_default().push(hold);
        }
        for (task, mut held_leases) in by_task {
            held_leases.sort_by_key(|hold| hold.attempt);
            for pair in held_leases.windows(2) {
                assert!(pair[0].attempt < pair[1].attempt, "attempt {} of {task} was leased twice", pair[0].attempt);
                let overlap = pair[0].end().saturating_duration_since(pair[1].received_at);
                assert!(
                    overlap.is_zero(),
                    "{task} was held by {} (attempt {}) {overlap:?} longer than until {} received attempt {}",
                    pair[0].worker,
                    pair[0].attempt,
                    pair[1].worker,
                    pair[1].attempt,
                );
            }
        }
    }
}

/// Asserts that every acknowledged task is in the log, and that every task in the log belongs to a request.
fn check_creates(checker: &Checker, facts: &LogFacts, account: &Account) {
    for (n, ids) in &account.created {
        assert!(ids.iter().all(|id| id == &ids[0]), "request {n} has several tasks: {ids:?}");
        assert!(facts.titles.contains(&n.to_string()), "the task of request {n} is lost: {ids:?}");
    }
    for id in account.created.values().flatten().chain(&account.unique_key_tasks) {
        assert!(checker.tasks.contains_key(id), "{id} is lost");
    }
    let known: HashSet<String> = account.created.keys().chain(&account.unknown).map(ToString::to_string).collect();
    let unrequested: Vec<_> = facts.titles.difference(&known).collect();
    assert!(unrequested.is_empty(), "tasks of no request: {unrequested:?}");
}

/// Asserts that each response to a cancel or a retry has the status that the task has in the log at the same revision.
fn check_changed_tasks(checker: &Checker, account: &Account) {
    for task in &account.changed_tasks {
        let revision = usize::try_from(task["revision"].as_u64().unwrap()).unwrap();
        let known = checker.tasks[task["id"].as_str().unwrap()].statuses.get(revision).copied();
        assert_eq!(task["status"].as_str(), known, "{task}");
    }
}

/// Asserts that each end that was acknowledged to a worker is in the log as reported by this worker. If the response was
/// `lease_lost`, somebody else must have ended the attempt.
fn check_ends(checker: &Checker, account: &Account) {
    for report in &account.ends {
        let what = format!(
            "attempt {} of {}, which {} ended: {}",
            report.attempt, report.task, report.worker, report.response
        );
        let end = checker.tasks[&report.task].ends.get(&report.attempt).unwrap_or_else(|| panic!("no end of {what}"));
        if report.response == "lease_lost" {
            assert!(!end.by_worker, "{what}, but {} did", end.actor);
        } else {
            assert_eq!((&*report.response, true, &*report.worker), (end.status, end.by_worker, &*end.actor), "{what}");
        }
    }
}

/// The counts in the counters, which must have this position.
pub fn counts_at(answer: &Value, position: u64) -> &Value {
    assert_eq!(answer["position"], json!(position), "{answer}");
    &answer["counts"]
}
