//! Figures for Prometheus: a fold of the log since the process began, and gauges that are read when somebody asks.
//!
//! Labels come from requests, and each new one costs memory for ever; so their number is bounded, and what is beyond the
//! bound is counted as `other`.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use actix::{Actor, ActorContext, Context, Handler};
use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::projector::Committed;
use super::projector::Stop;
use super::reader::ViewsReader;
use crate::store::LogEvent;
use crate::task::event::{Completed, Event, Outcome, SYSTEM_ERROR_CODES, TaskError};
use crate::task::{Position, Status, TaskId, Timestamp};
use crate::views::{Changed, Row};

/// KindPolicies that have a label of their own.
const KINDS_MAX: usize = 200;
/// KindPolicies and queues together that have labels of their own.
const PLACES_MAX: usize = 500;
/// What stands for all others.
const OTHER: &str = "other";
/// Upper bounds, in seconds: a cancel reaches a worker in milliseconds, work takes up to days.
const BUCKETS: [f64; 17] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0, 7200.0];

/// What is counted and measured; a clone is the same figures.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    tasks: IntGaugeVec,
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
    /// All at nothing.
    ///
    /// # Errors
    /// Where a name can't be what it is, which the first start of a test shows.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, Error> {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let seconds = |name: &str, help: &str, labels: &[&str]| -> Result<HistogramVec, Error> {
            let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.into()), labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let tasks = IntGaugeVec::new(Opts::new("taskbell_tasks", "Tasks of all owners by status."), &["status"])?;
        registry.register(Box::new(tasks.clone()))?;
        Ok(Self {
            tasks,
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
            registry,
        })
    }

    /// The figures as text, in the format that Prometheus reads; `head` is where the log ends.
    ///
    /// # Errors
    /// Never in practice: what was registered can be written.
    pub fn text(&self, read: &ViewsReader, head: Position) -> Result<String, Error> {
        let (position, counts) = {
            let views = read.views();
            (views.position(), views.totals())
        };
        for (status, count) in Status::ALL.into_iter().zip(counts) {
            self.tasks.with_label_values(&[status.name()]).set(whole(count));
        }
        self.log_position.set(whole(head.0));
        self.views_position.set(whole(position.0));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The labels that are in use.
#[derive(Debug, Default)]
struct Labels {
    /// KindPolicies, each with its queues.
    kinds: HashMap<Box<str>, HashSet<Box<str>>>,
    places: usize,
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

    fn place<'a>(&mut self, kind: &'a str, queue: &'a str) -> [&'a str; 2] {
        let kind = self.kind(kind);
        let Some(queues) = self.kinds.get_mut(kind) else { return [kind, OTHER] };
        if queues.contains(queue) {
            return [kind, queue];
        }
        if self.places >= PLACES_MAX {
            return [kind, OTHER];
        }
        self.places += 1;
        queues.insert(queue.into());
        [kind, queue]
    }
}

/// The actor that keeps the figures up to date.
pub struct Meter {
    metrics: Metrics,
    labels: Labels,
    /// Since when these queued tasks are ready, where their rows don't say it.
    ready: HashMap<TaskId, Timestamp>,
}

impl Meter {
    /// `kinds` have labels of their own, however many others strangers name.
    #[must_use]
    pub fn new<'a>(metrics: Metrics, kinds: impl IntoIterator<Item = &'a str>) -> Self {
        let mut labels = Labels::default();
        for kind in kinds {
            labels.kind(kind);
        }
        Self { metrics, labels, ready: HashMap::new() }
    }

    fn hear(&mut self, event: &Event, at: Timestamp, before: Option<&Row>, after: &Row) {
        let kind = self.labels.kind(after.kind());
        match event {
            Event::Created(_) => self.metrics.created.with_label_values(&[kind]).inc(),
            Event::Started(_) => self.started(at, before, after),
            Event::Queued(_) => {
                // A task's first wait shows in its row; the pause before another attempt is forgotten there.
                if let Some(due) = before.and_then(Row::retry_at) {
                    self.ready.insert(after.id(), due);
                }
            }
            Event::Retried(_) => _ = self.ready.insert(after.id(), at),
            Event::Released(_) => {
                self.ended(kind, "released");
                self.ready.insert(after.id(), at);
            }
            Event::CancelAcknowledged(_) => {
                let is_first = before.and_then(Row::cancel).is_some_and(|cancel| cancel.acknowledged_at.is_none());
                if let Some(cancel) = after.cancel().filter(|_| is_first) {
                    let waited = seconds(at.since(cancel.requested_at));
                    self.metrics.acknowledged.with_label_values(&[kind]).observe(waited);
                }
            }
            Event::AttemptFailed(failed) => self.ended(kind, verdict_of_the_system(&failed.error).unwrap_or("failed")),
            Event::Completed(completed) => self.completed(kind, completed, after),
            Event::CancelRequested(_) | Event::CancelEscalated(_) | Event::OutputKept(_) => {}
        }
    }

    fn ended(&self, kind: &str, end: &str) {
        self.metrics.ended.with_label_values(&[kind, end]).inc();
    }

    fn started(&mut self, at: Timestamp, before: Option<&Row>, after: &Row) {
        // Only its creation, or that and the coming of its time, lie behind it: the row says since when it is ready. What
        // became ready otherwise before this process began is not measured.
        let first = before.filter(|row| row.attempt() == 0 && row.revision().0 <= 1);
        let ready = self.ready.remove(&after.id());
        let ready = ready.or_else(|| first.map(|row| row.run_at().unwrap_or_else(|| row.created_at())));
        if let Some(ready) = ready {
            let place = self.labels.place(after.kind(), after.queue());
            self.metrics.wait.with_label_values(&place).observe(seconds(at.since(ready)));
        }
    }

    fn completed(&mut self, kind: &str, completed: &Completed, after: &Row) {
        self.ready.remove(&after.id());
        // What did not run neither ran nor stopped.
        if completed.attempt.is_none() {
            return;
        }
        let outcome = match completed.outcome {
            Outcome::Succeeded => "succeeded",
            Outcome::Failed => "failed",
            Outcome::Cancelled => "cancelled",
        };
        let by_force = if completed.forced { "revoked" } else { outcome };
        self.ended(kind, completed.error.as_ref().and_then(verdict_of_the_system).unwrap_or(by_force));
        if let Some(span) = after.duration() {
            self.metrics.run.with_label_values(&[kind, outcome]).observe(seconds(span));
        }
        let stopped = after.cancel().zip(after.finished_at()).zip(after.cancel().and_then(|cancel| cancel.verdict));
        if let Some(((cancel, finished), verdict)) = stopped {
            let waited = seconds(finished.since(cancel.requested_at));
            self.metrics.stopped.with_label_values(&[kind, verdict.name()]).observe(waited);
        }
    }
}

fn seconds(span: Duration) -> f64 {
    span.as_secs_f64()
}

fn verdict_of_the_system(error: &TaskError) -> Option<&'static str> {
    SYSTEM_ERROR_CODES.into_iter().find(|code| *code == error.code)
}

impl Actor for Meter {
    type Context = Context<Self>;
}

impl Handler<Committed> for Meter {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Context<Self>) {
        let mut changes = committed.changes.iter().peekable();
        for recorded in committed.events.iter() {
            // Not every event changes a task, but those that do stand in the same order.
            let change = changes.next_if(|change| change.after.position() == recorded.position);
            if let (LogEvent::Task(event), Some(Changed { before, after })) = (&recorded.event, change) {
                self.hear(event, recorded.time, before.as_ref(), after);
            }
            self.metrics.events.with_label_values(&[recorded.kind]).inc();
        }
    }
}

impl Handler<Stop> for Meter {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
