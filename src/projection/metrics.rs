//! Metrics for Prometheus: counters and histograms that follow the log from the start of the process on, and gauges that are
//! set when they are scraped.
//!
//! The values of labels come from clients, and each new one costs memory until the process ends. So their number is bounded;
//! what is beyond the bound counts as `other`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::reader::ViewsReader;
use crate::store::{LogEvent, Recorded};
use crate::task::event::{Completed, Event, Outcome, SYSTEM_ERROR_CODES, TaskError};
use crate::task::{Position, Status, TaskId, Timestamp};
use crate::views::{Changed, Row};

/// Kinds that have a label of their own.
const KINDS_MAX: usize = 200;
/// Pairs of a kind and a queue that have labels of their own.
const PAIRS_MAX: usize = 500;
/// The label of all others.
const OTHER: &str = "other";
/// Upper bounds of the histograms, in seconds: a cancel reaches a worker in milliseconds, work takes up to days.
const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// All metrics; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    tasks: IntGaugeVec,
    log_up: IntGauge,
    log_position: IntGauge,
    views_position: IntGauge,
    events: IntCounterVec,
    created: IntCounterVec,
    ended: IntCounterVec,
    acknowledged: HistogramVec,
    stopped: HistogramVec,
    wait: HistogramVec,
    run: HistogramVec,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Where a name is invalid or used twice. The names are constants, so any test that starts a server finds that.
    pub fn new() -> Result<Self, Error> {
        Self::in_registry(&Registry::new())
    }

    fn in_registry(registry: &Registry) -> Result<Self, Error> {
        let (counter, gauge, seconds) = (counters_in(registry), gauges_in(registry), histograms_in(registry));
        let tasks = IntGaugeVec::new(Opts::new("taskbell_tasks", "Tasks of all owners by status."), &["status"])?;
        registry.register(Box::new(tasks.clone()))?;
        Ok(Self {
            tasks,
            log_up: gauge("taskbell_log_up", "1 while the log takes writes and its events arrive here, else 0.")?,
            log_position: gauge("taskbell_log_position", "Position of the last durable event of the log.")?,
            views_position: gauge("taskbell_views_position", "Position of the last event that the views show.")?,
            events: counter("taskbell_events_total", "Events recorded since the process began.", &["type"])?,
            created: counter("taskbell_tasks_created_total", "Tasks created since the process began.", &["kind"])?,
            ended: counter(
                "taskbell_attempts_ended_total",
                "Attempts that ended since the process began; `end` is how, `revoked` by the last rung of a cancel.",
                &["kind", "end"],
            )?,
            acknowledged: seconds(
                "taskbell_cancel_acknowledged_seconds",
                "From the request to cancel a running task to the first word of its worker.",
                &["kind"],
            )?,
            stopped: seconds(
                "taskbell_cancel_stopped_seconds",
                "From the request to cancel a running task to the end of its attempt.",
                &["kind", "verdict"],
            )?,
            wait: seconds(
                "taskbell_wait_seconds",
                "From when a task was ready to the start of an attempt; after a release, from there.",
                &["kind", "queue"],
            )?,
            run: seconds(
                "taskbell_run_seconds",
                "From the start to the end of the attempt that ended the run.",
                &["kind", "outcome"],
            )?,
            registry: registry.clone(),
        })
    }

    /// The metrics in Prometheus' text format; `head` is the position of the last durable event that this server has received,
    /// `is_up` whether the log takes writes and its events arrive.
    ///
    /// # Errors
    /// Where a metric can't be written; none that is registered here.
    pub fn text(&self, read: &ViewsReader, head: Position, is_up: bool) -> Result<String, Error> {
        let (position, counts) = {
            let views = read.views();
            (views.position(), views.totals())
        };
        for (status, count) in Status::ALL.into_iter().zip(counts) {
            self.tasks.with_label_values(&[status.name()]).set(gauge_value(count));
        }
        self.log_up.set(i64::from(is_up));
        self.log_position.set(gauge_value(head.0));
        self.views_position.set(gauge_value(position.0));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters_in(registry: &Registry) -> impl Fn(&str, &str, &[&str]) -> Result<IntCounterVec, Error> {
    |name, help, labels| {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }
}

fn gauges_in(registry: &Registry) -> impl Fn(&str, &str) -> Result<IntGauge, Error> {
    |name, help| {
        let gauge = IntGauge::new(name, help)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

fn histograms_in(registry: &Registry) -> impl Fn(&str, &str, &[&str]) -> Result<HistogramVec, Error> {
    |name, help, labels| {
        let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.into()), labels)?;
        registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

/// As a gauge holds it.
fn gauge_value(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The values of labels that are in use.
#[derive(Debug, Default)]
struct Labels {
    /// The kinds, each with its queues.
    kinds: HashMap<Box<str>, HashSet<Box<str>>>,
    /// How many pairs of a kind and a queue there are.
    pairs: usize,
}

impl Labels {
    fn kind<'a>(&mut self, kind: &'a str) -> &'a str {
        if self.kinds.contains_key(kind) {
            return kind;
        }
        if self.kinds.len() >= KINDS_MAX {
            return OTHER;
        }
        self.kinds.insert(kind.into(), HashSet::new());
        kind
    }

    fn kind_and_queue<'a>(&mut self, kind: &'a str, queue: &'a str) -> [&'a str; 2] {
        let kind = self.kind(kind);
        let Some(queues) = self.kinds.get_mut(kind) else { return [kind, OTHER] };
        if queues.contains(queue) {
            return [kind, queue];
        }
        if self.pairs >= PAIRS_MAX {
            return [kind, OTHER];
        }
        self.pairs += 1;
        queues.insert(queue.into());
        [kind, queue]
    }
}

/// Counts and measures what happens, called by the projector itself: its counters say "since the process began", so nothing
/// could rebuild them after a batch that was left out.
pub struct Meter {
    metrics: Metrics,
    labels: Labels,
    /// Since when a queued task is ready, for those whose rows don't tell.
    ready: HashMap<TaskId, Timestamp>,
}

impl Meter {
    /// A meter that gives each of `kinds` a label of its own, however many other kinds clients name.
    #[must_use]
    pub fn new<'a>(metrics: Metrics, kinds: impl IntoIterator<Item = &'a str>) -> Self {
        let mut labels = Labels::default();
        for kind in kinds {
            labels.kind(kind);
        }
        Self { metrics, labels, ready: HashMap::new() }
    }

    fn record(&mut self, event: &Event, at: Timestamp, before: Option<&Row>, after: &Row) {
        let kind = self.labels.kind(after.kind());
        match event {
            Event::Created(_) => self.metrics.created.with_label_values(&[kind]).inc(),
            Event::Started(_) => self.measure_wait(at, before, after),
            // The row tells since when the first attempt is ready, but forgets the pause before another one.
            Event::Queued(_) => self.ready.extend(before.and_then(Row::retry_at).map(|due| (after.id(), due))),
            Event::Retried(_) => _ = self.ready.insert(after.id(), at),
            Event::Released(_) => {
                self.count_end(kind, "released");
                self.ready.insert(after.id(), at);
            }
            Event::CancelAcknowledged(_) => self.measure_acknowledgement(kind, at, before, after),
            Event::AttemptFailed(failed) => {
                self.count_end(kind, verdict_of_the_system(&failed.error).unwrap_or("failed"));
            }
            Event::Completed(completed) => self.record_completion(kind, completed, after),
            Event::CancelRequested(_) | Event::CancelEscalated(_) | Event::OutputKept(_) => {}
        }
    }

    fn count_end(&self, kind: &str, end: &str) {
        self.metrics.ended.with_label_values(&[kind, end]).inc();
    }

    /// Only the first acknowledgement of a request is measured.
    fn measure_acknowledgement(&self, kind: &str, at: Timestamp, before: Option<&Row>, after: &Row) {
        let is_first = before.and_then(Row::cancel).is_some_and(|cancel| cancel.acknowledged_at.is_none());
        if let Some(cancel) = after.cancel().filter(|_| is_first) {
            let waited = seconds(at.since(cancel.requested_at));
            self.metrics.acknowledged.with_label_values(&[kind]).observe(waited);
        }
    }

    fn measure_wait(&mut self, at: Timestamp, before: Option<&Row>, after: &Row) {
        // Where nothing came before but the creation and the time of `run_at`, the row tells since when the task is ready.
        // A task that became ready in another way before this process began is not measured.
        let first = before.filter(|row| row.attempt() == 0 && row.revision().0 <= 1);
        let ready = self.ready.remove(&after.id());
        let ready = ready.or_else(|| first.map(|row| row.run_at().unwrap_or_else(|| row.created_at())));
        if let Some(ready) = ready {
            let labels = self.labels.kind_and_queue(after.kind(), after.queue());
            self.metrics.wait.with_label_values(&labels).observe(seconds(at.since(ready)));
        }
    }

    fn record_completion(&mut self, kind: &str, completed: &Completed, after: &Row) {
        self.ready.remove(&after.id());
        // A task that never ran has no times to measure.
        if completed.attempt.is_none() {
            return;
        }
        let outcome = match completed.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let end = if completed.forced { "revoked" } else { outcome };
        self.count_end(kind, completed.error.as_ref().and_then(verdict_of_the_system).unwrap_or(end));
        if let Some(span) = after.duration() {
            self.metrics.run.with_label_values(&[kind, outcome]).observe(seconds(span));
        }
        self.measure_stop(kind, after);
    }

    fn measure_stop(&self, kind: &str, after: &Row) {
        let Some((cancel, finished)) = after.cancel().zip(after.finished_at()) else { return };
        if let Some(verdict) = cancel.verdict {
            let waited = seconds(finished.since(cancel.requested_at));
            self.metrics.stopped.with_label_values(&[kind, verdict.name()]).observe(waited);
        }
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// The code of an error that the system itself gave an attempt.
fn verdict_of_the_system(error: &TaskError) -> Option<&'static str> {
    SYSTEM_ERROR_CODES.into_iter().find(|code| *code == error.code)
}

impl Meter {
    /// Counts and measures a batch of events, with what they did to tasks, in the same order.
    pub fn apply(&mut self, events: &[Arc<Recorded>], changes: &[Changed]) {
        let mut changes = changes.iter().peekable();
        for recorded in events {
            // Not every event changes a task; those that do are in the same order as the changes.
            let change = changes.next_if(|change| change.after.position() == recorded.position);
            if let (LogEvent::Task(event), Some(Changed { before, after })) = (&recorded.event, change) {
                self.record(event, recorded.time, before.as_ref(), after);
            }
            self.metrics.events.with_label_values(&[recorded.kind]).inc();
        }
    }
}
