//! Metrics for Prometheus. Counters and histograms measure the events since the start of the process. Gauges are set when
//! Prometheus requests the metrics.
//!
//! The values of labels are names that clients choose, and each value takes memory until the process ends. So their number is
//! bounded. Further names are counted with the label `other`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::reader::ViewsReader;
use crate::store::{EventStore, LogEvent, Recorded, WriteAheadLog};
use crate::task::event::{Completed, Event, Outcome, SYSTEM_ERROR_CODES, TaskError};
use crate::task::{Status, TaskId, Timestamp};
use crate::views::{Row, TaskChange};

/// The maximum number of kinds that have a label of their own.
const KINDS_MAX: usize = 200;
/// The maximum number of pairs of a kind and a queue that have labels of their own.
const PAIRS_MAX: usize = 500;
/// How a checkpoint ends, as a label.
const CHECKPOINT_RESULTS: [&str; 3] = ["complete", "partial", "failed"];
/// The label of all other names.
const OTHER: &str = "other";
/// The upper bounds of the buckets of the histograms, in seconds. A cancel may take milliseconds, and work may take days.
const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// All metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    tasks: IntGaugeVec,
    log_up: IntGauge,
    log_position: IntGauge,
    wal_frames: IntGauge,
    wal_frames_copied: IntGauge,
    checkpoints: IntCounterVec,
    /// The checkpoints that the metric counts already, by [`CHECKPOINT_RESULTS`].
    counted_checkpoints: Arc<Mutex<[u64; 3]>>,
    views_position: IntGauge,
    events: IntCounterVec,
    tasks_created: IntCounterVec,
    attempts_ended: IntCounterVec,
    cancel_acknowledged_seconds: HistogramVec,
    cancel_stopped_seconds: HistogramVec,
    wait_seconds: HistogramVec,
    run_seconds: HistogramVec,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// If a name is invalid or is used twice. The names are constants, so every test that starts a server would find this.
    pub fn new() -> Result<Self, Error> {
        Self::in_registry(&Registry::new())
    }

    fn in_registry(registry: &Registry) -> Result<Self, Error> {
        let (counter, gauge, histogram) =
            (counter_factory(registry), gauge_factory(registry), histogram_factory(registry));
        let tasks = IntGaugeVec::new(Opts::new("taskbell_tasks", "Tasks of all owners by status."), &["status"])?;
        registry.register(Box::new(tasks.clone()))?;
        Ok(Self {
            tasks,
            log_up: gauge("taskbell_log_up", "1 while this server can write the log and receives its events, else 0.")?,
            log_position: gauge("taskbell_log_position", "Position of the last durable event of the log.")?,
            views_position: gauge("taskbell_views_position", "Position of the last event that the views show.")?,
            wal_frames: gauge(
                "taskbell_log_wal_frames",
                "Frames of 8,216 bytes in the write-ahead log of an embedded log.",
            )?,
            wal_frames_copied: gauge(
                "taskbell_log_wal_frames_copied",
                "How many of these frames are in the main file too.",
            )?,
            checkpoints: counter(
                "taskbell_log_checkpoints_total",
                "Checkpoints of an embedded log since the process began. `partial`: a reader has kept frames from being copied.",
                &["result"],
            )?,
            counted_checkpoints: Arc::default(),
            events: counter("taskbell_events_total", "Events recorded since the process began.", &["type"])?,
            tasks_created: counter(
                "taskbell_tasks_created_total",
                "Tasks created since the process began.",
                &["kind"],
            )?,
            attempts_ended: counter(
                "taskbell_attempts_ended_total",
                "Attempts that ended since the process began. The label `end` says how (`revoked`: by the last rung of a cancel).",
                &["kind", "end"],
            )?,
            cancel_acknowledged_seconds: histogram(
                "taskbell_cancel_acknowledged_seconds",
                "From the request to cancel a running task to its worker's first acknowledgement.",
                &["kind"],
            )?,
            cancel_stopped_seconds: histogram(
                "taskbell_cancel_stopped_seconds",
                "From the request to cancel a running task to the end of its attempt.",
                &["kind", "verdict"],
            )?,
            wait_seconds: histogram(
                "taskbell_wait_seconds",
                "From when a task became ready (or was released) to the start of an attempt.",
                &["kind", "queue"],
            )?,
            run_seconds: histogram(
                "taskbell_run_seconds",
                "From the start to the end of the attempt that ended the run.",
                &["kind", "outcome"],
            )?,
            registry: registry.clone(),
        })
    }

    /// The metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If a metric can't be written. This doesn't happen for the metrics that are registered here.
    pub fn text(&self, reader: &ViewsReader, store: &EventStore) -> Result<String, Error> {
        let (position, counts) = {
            let views = reader.views();
            (views.position(), views.totals())
        };
        for (status, count) in Status::ALL.into_iter().zip(counts) {
            self.tasks.with_label_values(&[status.name()]).set(gauge_value(count));
        }
        self.log_up.set(i64::from(store.health().is_ok()));
        self.log_position.set(gauge_value(store.head().position.0));
        self.set_write_ahead_log(store.write_ahead_log().unwrap_or_default());
        self.views_position.set(gauge_value(position.0));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    fn set_write_ahead_log(&self, log: WriteAheadLog) {
        self.wal_frames.set(log.frames.into());
        self.wal_frames_copied.set(log.copied.into());
        // Two requests at the same time must not count the same checkpoints.
        let mut counted = self.counted_checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = [log.complete, log.partial, log.failed];
        for ((result, count), counted) in CHECKPOINT_RESULTS.into_iter().zip(counts).zip(counted.iter_mut()) {
            self.checkpoints.with_label_values(&[result]).inc_by(count.saturating_sub(*counted));
            *counted = count.max(*counted);
        }
    }
}

/// A function that registers a counter with this name, help text and labels.
fn counter_factory(registry: &Registry) -> impl Fn(&str, &str, &[&str]) -> Result<IntCounterVec, Error> {
    |name, help, labels| {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }
}

/// A function that registers a gauge with this name and help text.
fn gauge_factory(registry: &Registry) -> impl Fn(&str, &str) -> Result<IntGauge, Error> {
    |name, help| {
        let gauge = IntGauge::new(name, help)?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }
}

/// A function that registers a histogram with this name, help text and labels.
fn histogram_factory(registry: &Registry) -> impl Fn(&str, &str, &[&str]) -> Result<HistogramVec, Error> {
    |name, help, labels| {
        let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.into()), labels)?;
        registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

/// The number as the type of a gauge's value.
fn gauge_value(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The names that have labels of their own.
#[derive(Debug, Default)]
struct MetricLabels {
    /// The kinds, and for each kind the queues.
    kinds: HashMap<Box<str>, HashSet<Box<str>>>,
    /// The number of pairs of a kind and a queue.
    pairs: usize,
}

impl MetricLabels {
    /// The label of this kind. A new kind gets a label of its own, or [`OTHER`] if there are too many.
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

    /// The labels of this kind and queue. A new pair gets labels of its own, or [`OTHER`] for the queue if there are too many.
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

/// Updates the metrics with the applied events. The projector calls it directly. It is not a subscriber, because a subscriber
/// may miss batches, and the counters could not be rebuilt from the views.
pub struct MetricsRecorder {
    metrics: Metrics,
    labels: MetricLabels,
    /// Since when a queued task is ready, if the task's row doesn't contain this.
    ready_since: HashMap<TaskId, Timestamp>,
}

impl MetricsRecorder {
    /// A recorder that gives each of `kinds` a label of its own, even if clients name many other kinds.
    #[must_use]
    pub fn new<'a>(metrics: Metrics, kinds: impl IntoIterator<Item = &'a str>) -> Self {
        let mut labels = MetricLabels::default();
        for kind in kinds {
            labels.kind(kind);
        }
        Self { metrics, labels, ready_since: HashMap::new() }
    }

    fn record(&mut self, event: &Event, at: Timestamp, before: Option<&Row>, after: &Row) {
        let kind = self.labels.kind(after.kind());
        match event {
            Event::Created(_) => self.metrics.tasks_created.with_label_values(&[kind]).inc(),
            Event::Started(_) => self.measure_wait(at, before, after),
            // The row still contains `run_at` after this event, but not `retry_at`.
            Event::Queued(_) => self.ready_since.extend(before.and_then(Row::retry_at).map(|due| (after.id(), due))),
            Event::Retried(_) => _ = self.ready_since.insert(after.id(), at),
            Event::Released(_) => {
                self.count_end(kind, "released");
                self.ready_since.insert(after.id(), at);
            }
            Event::CancelAcknowledged(_) => self.measure_acknowledgement(kind, at, before, after),
            Event::AttemptFailed(failed) => {
                self.count_end(kind, system_error_code(&failed.error).unwrap_or("failed"));
            }
            Event::Completed(completed) => self.record_completion(kind, completed, after),
            Event::CancelRequested(_) | Event::CancelEscalated(_) | Event::OutputKept(_) => {}
        }
    }

    fn count_end(&self, kind: &str, end: &str) {
        self.metrics.attempts_ended.with_label_values(&[kind, end]).inc();
    }

    /// Only the first acknowledgement of a request is measured.
    fn measure_acknowledgement(&self, kind: &str, at: Timestamp, before: Option<&Row>, after: &Row) {
        let is_first = before.and_then(Row::cancel).is_some_and(|cancel| cancel.acknowledged_at.is_none());
        if let Some(cancel) = after.cancel().filter(|_| is_first) {
            let waited = seconds(at.since(cancel.requested_at));
            self.metrics.cancel_acknowledged_seconds.with_label_values(&[kind]).observe(waited);
        }
    }

    fn measure_wait(&mut self, at: Timestamp, before: Option<&Row>, after: &Row) {
        // Before the first attempt, `run_at` or `created_at` in the row says since when the task is ready. A task that became
        // ready in another way before this process began is not measured.
        let first_start = before.filter(|row| row.attempt() == 0 && row.revision().0 <= 1);
        let ready_since = self.ready_since.remove(&after.id());
        let ready_since =
            ready_since.or_else(|| first_start.map(|row| row.run_at().unwrap_or_else(|| row.created_at())));
        if let Some(ready_since) = ready_since {
            let labels = self.labels.kind_and_queue(after.kind(), after.queue());
            self.metrics.wait_seconds.with_label_values(&labels).observe(seconds(at.since(ready_since)));
        }
    }

    fn record_completion(&mut self, kind: &str, completed: &Completed, after: &Row) {
        self.ready_since.remove(&after.id());
        // If no attempt ended with the run, there is nothing to measure.
        if completed.attempt.is_none() {
            return;
        }
        let outcome = match completed.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let end = if completed.forced { "revoked" } else { outcome };
        self.count_end(kind, completed.error.as_ref().and_then(system_error_code).unwrap_or(end));
        if let Some(span) = after.duration() {
            self.metrics.run_seconds.with_label_values(&[kind, outcome]).observe(seconds(span));
        }
        self.measure_stop(kind, after);
    }

    fn measure_stop(&self, kind: &str, after: &Row) {
        let Some((cancel, finished)) = after.cancel().zip(after.finished_at()) else { return };
        if let Some(verdict) = cancel.verdict {
            let waited = seconds(finished.since(cancel.requested_at));
            self.metrics.cancel_stopped_seconds.with_label_values(&[kind, verdict.name()]).observe(waited);
        }
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

/// The code of the error, if the system ended the attempt with this error.
fn system_error_code(error: &TaskError) -> Option<&'static str> {
    SYSTEM_ERROR_CODES.into_iter().find(|code| *code == error.code)
}

impl MetricsRecorder {
    /// Updates the metrics with a batch of events, and with the changes of tasks by these events, in the same order.
    pub fn apply(&mut self, events: &[Arc<Recorded>], changes: &[TaskChange]) {
        let mut changes = changes.iter().peekable();
        for recorded in events {
            // Some events change no task. Every other event has one change, with the same position.
            let change = changes.next_if(|change| change.after.position() == recorded.position);
            if let (LogEvent::Task(event), Some(TaskChange { before, after })) = (&recorded.event, change) {
                self.record(event, recorded.time, before.as_ref(), after);
            }
            self.metrics.events.with_label_values(&[recorded.event_type]).inc();
        }
    }
}
