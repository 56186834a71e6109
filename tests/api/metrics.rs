//! `GET /metrics`.

#![allow(clippy::float_cmp)] // counts are whole numbers

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Arbiter;
use serde_json::json;
use taskbell::projection::metrics::{Metrics, MetricsRecorder};
use taskbell::projection::reader::split_views;
use taskbell::store::{EventStore, Meta, Via};
use taskbell::streams::messages::Execute;
use taskbell::streams::registry::Registry;
use taskbell::task::command::AttemptEnd;
use taskbell::task::event::{Created, QueuedReason, ReleasedReason, TaskError};
use taskbell::task::{Command, TaskId, Timestamp};
use taskbell::views::Views;
use uuid::Uuid;

use super::super::support::{Server, TEST_TIMEOUT};
use super::{log_head, pointers, slow_task};

/// The value of each series, by its name and labels as in the text.
type Samples = BTreeMap<String, f64>;

/// Parses the text format 0.0.4. Panics if a scraper would refuse the text or `promtool` would report a warning.
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line ends too");
    let mut types: HashMap<&str, &str> = HashMap::new();
    let mut helped = HashSet::new();
    let mut samples = Samples::new();
    let mut family = "";
    for line in text.lines() {
        assert_eq!(line, line.trim(), "no space around a line");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name) && !help.is_empty(), "one help for each family: {line}");
            family = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, family, "the type comes after the help and before the samples");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(name.starts_with("taskbell_") && is_metric(name), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(types.insert(name, kind).is_none(), "one type for each family: {line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            let name = series.split('{').next().unwrap();
            let parts: &[&str] = if types[family] == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.iter().any(|part| name.strip_suffix(part) == Some(family)), "{line} is not of {family}");
            labels(series);
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            assert!(value >= 0.0, "{line}");
            assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {series}");
        }
    }
    for (name, _) in types.iter().filter(|(_, kind)| **kind == "histogram") {
        check_histogram(name, &samples);
    }
    samples
}

fn is_metric(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The labels of a series without `le`, as one text.
fn labels(series: &str) -> String {
    let Some((_, rest)) = series.split_once('{') else { return String::new() };
    let inner = rest.strip_suffix('}').expect("a closing brace");
    let pairs: Vec<(&str, &str)> = inner.split(',').map(|pair| pair.split_once('=').expect("name=value")).collect();
    for (name, value) in &pairs {
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect("quotes");
        assert!(is_metric(name) && !bare.is_empty() && !bare.contains(['"', '\\', '\n']), "{series}");
    }
    let names: HashSet<&str> = pairs.iter().map(|(name, _)| *name).collect();
    assert_eq!(names.len(), pairs.len(), "{series}");
    pairs
        .iter()
        .filter(|(name, _)| *name != "le")
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// Asserts that the buckets are cumulative and that the last one counts everything.
fn check_histogram(family: &str, samples: &Samples) {
    let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for (series, value) in samples.iter().filter(|(series, _)| series.starts_with(&format!("{family}_bucket{{"))) {
        let bound = series.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a bound");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        buckets.entry(labels(series)).or_default().push((bound, *value));
    }
    for (labels, mut buckets) in buckets {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.windows(2).all(|two| two[0].1 <= two[1].1), "{family}{{{labels}}} {buckets:?}");
        let last = buckets.last().unwrap();
        assert_eq!((last.0, last.1), (f64::INFINITY, samples[&format!("{family}_count{{{labels}}}")]), "{labels}");
        assert!(samples.contains_key(&format!("{family}_sum{{{labels}}}")), "{labels}");
    }
}

async fn scrape(server: &Server) -> Samples {
    let answer = server.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    parse(&answer.text)
}

/// Waits until the metrics count every event of the log, and returns the samples.
async fn final_samples(server: &Server) -> Samples {
    let (began, position) = (Instant::now(), log_head(server).await["position"].as_f64().unwrap());
    loop {
        let samples = scrape(server).await;
        if total(&samples, "taskbell_events_total{") >= position {
            return samples;
        }
        assert!(began.elapsed() < TEST_TIMEOUT, "{samples:?}");
    }
}

fn total(samples: &Samples, prefix: &str) -> f64 {
    samples.iter().filter(|(series, _)| series.starts_with(prefix)).map(|(_, value)| value).sum()
}

#[track_caller]
fn assert_samples(samples: &Samples, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        assert_eq!(samples.get(*series), Some(value), "{series} in {samples:#?}");
    }
}

#[tokio::test]
async fn a_server_without_tasks_shows_zeros_and_refuses_parameters() {
    let server = Server::start();
    let samples = scrape(&server).await;
    let statuses = ["scheduled", "queued", "running", "cancelling", "retrying", "succeeded", "failed", "cancelled"];
    for status in statuses {
        assert_samples(&samples, &[(&format!("taskbell_tasks{{status=\"{status}\"}}"), 0.0)]);
    }
    let zeros = ["taskbell_log_position", "taskbell_views_position"];
    assert_samples(&samples, &[("taskbell_log_up", 1.0), (zeros[0], 0.0), (zeros[1], 0.0)]);
    assert_samples(&samples, &[("taskbell_log_wal_frames", 0.0), ("taskbell_log_wal_frames_copied", 0.0)]);
    for result in ["complete", "partial", "failed"] {
        assert_samples(&samples, &[(&format!("taskbell_log_checkpoints_total{{result=\"{result}\"}}"), 0.0)]);
    }
    assert_eq!(samples.len(), 16);
    for (query, pointer) in [("?name=up", "/query/name"), ("?name[]=up", "/query/name[]"), ("?x=", "/query/x")] {
        let answer = server.get(&format!("/metrics{query}")).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer]);
    }
    server.post("/metrics", &json!({})).await.assert_problem(405, "method_not_allowed");
    let head = server.send(server.client().head(server.url() + "/metrics")).await;
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn tasks_events_and_ends_are_counted_for_all_owners() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), None);
    for (kind, owner) in [("a", "ann"), ("a", "bob"), ("b", "bob")] {
        server.submit(&json!({"kind": kind, "owner": owner})).await;
    }
    let waiting = server.submit(&json!({"kind": "b", "run_at": "2999-01-01T00:00:00Z"})).await;
    server.post(&format!("/v1/tasks/{waiting}/cancel"), &json!({})).await;
    std::fs::create_dir(root.path().join("source")).unwrap();
    std::fs::write(root.path().join("source/f"), "f").unwrap();
    let input = json!({"source": root.path().join("source"), "targets": [root.path().join("target")]});
    let id = server.submit(&json!({"kind": "content.distribute", "input": input, "queue": "disk"})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "succeeded");
    let missing = json!({"source": root.path().join("nothing"), "targets": [root.path().join("target")]});
    let id = server.submit(&json!({"kind": "content.distribute", "input": missing, "max_attempts": 1})).await;
    assert_eq!(server.task_at_end(&id).await["status"], "failed");
    let samples = final_samples(&server).await;
    assert_samples(
        &samples,
        &[
            ("taskbell_tasks{status=\"queued\"}", 3.0),
            ("taskbell_tasks{status=\"succeeded\"}", 1.0),
            ("taskbell_tasks{status=\"failed\"}", 1.0),
            ("taskbell_tasks{status=\"cancelled\"}", 1.0),
            ("taskbell_log_position", 12.0),
            ("taskbell_views_position", 12.0),
            ("taskbell_events_total{type=\"Created\"}", 6.0),
            ("taskbell_events_total{type=\"CancelRequested\"}", 1.0),
            ("taskbell_events_total{type=\"Completed\"}", 3.0),
            ("taskbell_tasks_created_total{kind=\"a\"}", 2.0),
            ("taskbell_tasks_created_total{kind=\"b\"}", 2.0),
            ("taskbell_attempts_ended_total{end=\"succeeded\",kind=\"content.distribute\"}", 1.0),
            ("taskbell_attempts_ended_total{end=\"failed\",kind=\"content.distribute\"}", 1.0),
            ("taskbell_wait_seconds_count{kind=\"content.distribute\",queue=\"disk\"}", 1.0),
            ("taskbell_wait_seconds_count{kind=\"content.distribute\",queue=\"default\"}", 1.0),
            ("taskbell_run_seconds_count{kind=\"content.distribute\",outcome=\"succeeded\"}", 1.0),
        ],
    );
    assert_eq!(total(&samples, "taskbell_cancel_"), 0.0, "a task that never ran is not measured");
    assert_eq!(total(&samples, "taskbell_attempts_ended_total{"), 2.0);
}

#[tokio::test]
async fn a_cancel_is_measured_from_the_request_to_the_acknowledgement_and_to_the_end() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), Some(150_000));
    let id = slow_task(&server, root.path()).await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let end = server.task_at_end(&id).await;
    let samples = final_samples(&server).await;
    let verdict = end["cancel"]["verdict"].as_str().unwrap();
    let acknowledged = "taskbell_cancel_acknowledged_seconds_sum{kind=\"content.distribute\"}";
    let stopped = format!("taskbell_cancel_stopped_seconds_sum{{kind=\"content.distribute\",verdict=\"{verdict}\"}}");
    assert_samples(
        &samples,
        &[(&acknowledged.replace("_sum", "_count"), 1.0), (&stopped.replace("_sum", "_count"), 1.0)],
    );
    let time = |value: &serde_json::Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let requested = time(&end["cancel"]["requested_at"]);
    let acknowledged_after = time(&end["cancel"]["acknowledged_at"]).since(requested).as_secs_f64();
    let stopped_after = time(&end["finished_at"]).since(requested).as_secs_f64();
    assert!(
        (samples[acknowledged] - acknowledged_after).abs() < 1e-9 && (samples[&stopped] - stopped_after).abs() < 1e-9,
        "{samples:#?}"
    );
}

#[tokio::test]
async fn clients_cannot_create_labels_without_bound() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::with_content(root.path(), None);
    let items: Vec<_> = (0..300).map(|n| json!({"kind": format!("k{n}"), "queue": format!("q{n}")})).collect();
    let answer = server.post("/v1/tasks/batch", &json!({"items": items})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let missing = json!({"source": root.path().join("nothing"), "targets": [root.path().join("target")]});
    let id = server.submit(&json!({"kind": "content.distribute", "input": missing})).await;
    server.task_when(&id, |task| task["attempt"] == 1).await;
    server.post(&format!("/v1/tasks/{id}/cancel"), &json!({})).await;
    let samples = final_samples(&server).await;
    let created = "taskbell_tasks_created_total{";
    assert_eq!(total(&samples, created), 301.0);
    let kinds = samples.keys().filter(|series| series.starts_with(created)).count();
    assert!((100..=201).contains(&kinds), "{kinds}");
    assert!(samples["taskbell_tasks_created_total{kind=\"other\"}"] >= 100.0);
    assert_samples(&samples, &[("taskbell_tasks_created_total{kind=\"content.distribute\"}", 1.0)]);
}

/// A log and its metrics. The test chooses the time of each command.
struct MetricsFixture {
    store: EventStore,
    registry: Registry,
    views: Views,
    metrics: Metrics,
    meter: MetricsRecorder,
}

impl MetricsFixture {
    fn new() -> Self {
        let store = EventStore::memory();
        let metrics = Metrics::new().unwrap();
        let registry = Registry::start(&store, &[Arbiter::new()]);
        let meter = MetricsRecorder::new(metrics.clone(), ["k"]);
        Self { store, registry, views: Views::default(), metrics, meter }
    }

    async fn execute(&mut self, task: TaskId, second: u64, command: Command) {
        let meta = Meta {
            actor: "ann".to_owned(),
            via: Via::Http,
            correlation_id: Uuid::nil(),
            causation_id: None,
            request_id: None,
        };
        let at = Timestamp::from_micros(0).plus(Duration::from_secs(second));
        self.registry.execute(Execute { task, command, at, meta }).await.unwrap();
        let events = self.store.read_all(self.views.position(), 100).await.unwrap();
        let changes: Vec<_> = events.iter().filter_map(|recorded| self.views.apply(recorded).task).collect();
        self.meter.apply(&events, &changes);
    }

    async fn start(&mut self, task: TaskId, second: u64) {
        self.execute(task, second, Command::Start { worker: "w".to_owned(), lease_hash: format!("{second}") }).await;
    }

    async fn finish(&mut self, task: TaskId, second: u64, attempt: u32, end: AttemptEnd) {
        self.execute(task, second, Command::Finish { attempt, lease_hash: None, end, progress: None, output: None })
            .await;
    }

    fn samples(self) -> Samples {
        let (_, read) = split_views(self.views);
        parse(&self.metrics.text(&read, &EventStore::memory()).unwrap())
    }
}

fn created(run_at_s: Option<u64>) -> Command {
    Command::Create(Arc::new(Created {
        kind: "k".to_owned(),
        title: "t".to_owned(),
        owner: "ann".to_owned(),
        input: json!(null).into(),
        queue: "q".to_owned(),
        priority: 0,
        run_at: run_at_s.map(|second| Timestamp::from_micros(0).plus(Duration::from_secs(second))),
        max_attempts: 3,
        timeout_s: None,
        labels: BTreeMap::new(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    }))
}

const WAIT: &str = "taskbell_wait_seconds_sum{kind=\"k\",queue=\"q\"}";
const WAITS: &str = "taskbell_wait_seconds_count{kind=\"k\",queue=\"q\"}";

fn done() -> AttemptEnd {
    AttemptEnd::Succeeded { message: None, result: None }
}

#[actix_rt::test]
async fn a_release_is_not_the_end_of_a_run_and_begins_another_wait() {
    let mut fixture = MetricsFixture::new();
    let task = TaskId::from_uuid(Uuid::now_v7());
    fixture.execute(task, 10, created(None)).await;
    fixture.start(task, 12).await;
    fixture.finish(task, 15, 1, AttemptEnd::Released(ReleasedReason::NotDelivered)).await;
    fixture.start(task, 19).await;
    fixture.finish(task, 24, 2, done()).await;
    assert_samples(
        &fixture.samples(),
        &[
            (WAIT, 6.0),
            (WAITS, 2.0),
            ("taskbell_attempts_ended_total{end=\"released\",kind=\"k\"}", 1.0),
            ("taskbell_attempts_ended_total{end=\"succeeded\",kind=\"k\"}", 1.0),
            ("taskbell_run_seconds_sum{kind=\"k\",outcome=\"succeeded\"}", 5.0),
        ],
    );
}

#[actix_rt::test]
async fn a_wait_begins_when_the_task_is_due_and_again_with_each_run() {
    let mut fixture = MetricsFixture::new();
    let task = TaskId::from_uuid(Uuid::now_v7());
    fixture.execute(task, 10, created(Some(100))).await;
    fixture.execute(task, 101, Command::Enqueue { reason: QueuedReason::RunAt }).await;
    fixture.start(task, 103).await;
    let error = TaskError { code: "broken".to_owned(), message: "m".to_owned() };
    fixture.finish(task, 110, 1, AttemptEnd::Failed { error, retryable: true }).await;
    let due = fixture.views.get(task).unwrap().retry_at().unwrap();
    fixture.execute(task, 120, Command::Enqueue { reason: QueuedReason::RetryAt }).await;
    fixture.start(task, 130).await;
    fixture.finish(task, 131, 2, done()).await;
    fixture.execute(task, 140, Command::Retry { reason: None }).await;
    fixture.start(task, 147).await;
    let lost = TaskError { code: "lease_expired".to_owned(), message: "m".to_owned() };
    fixture.execute(task, 150, Command::LoseAttempt { attempt: 3, error: lost, progress: None }).await;
    let samples = fixture.samples();
    let again = Timestamp::from_micros(0).plus(Duration::from_secs(130)).since(due).as_secs_f64();
    assert!((samples[WAIT] - (3.0 + again + 7.0)).abs() < 1e-6, "{samples:#?}");
    assert_samples(
        &samples,
        &[
            (WAITS, 3.0),
            ("taskbell_attempts_ended_total{end=\"failed\",kind=\"k\"}", 1.0),
            ("taskbell_attempts_ended_total{end=\"lease_expired\",kind=\"k\"}", 1.0),
        ],
    );
}
