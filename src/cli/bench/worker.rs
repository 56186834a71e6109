//! The worker: connections that take leases, and others that report ends in batches.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use super::load::{Scope, parse};
use super::wire::Wire;
use crate::cli::failure::Failure;

/// The most ends in one report.
const REPORT: usize = 1000;
/// Without an end for this long the run has failed.
const STALLED: Duration = Duration::from_secs(30);

/// The connections of a worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerShape {
    /// Connections that take.
    pub(super) takers: usize,
    /// The most leases of one take.
    pub(super) max: usize,
    /// Connections that report.
    pub(super) reporters: usize,
}

/// What the worker has done so far.
#[derive(Debug, Default)]
pub(super) struct WorkDone {
    /// Handlers that were started.
    pub(super) handled: AtomicU64,
    /// Ends that the server has acknowledged.
    pub(super) ended: AtomicU64,
    /// Takes that returned leases, and reports.
    pub(super) takes: AtomicU64,
    pub(super) reports: AtomicU64,
    /// When the first handler started.
    pub(super) first: OnceLock<Instant>,
    /// From before the call that created a timed task to the start of its handler.
    pub(super) waits: Mutex<Vec<Duration>>,
}

/// A worker inside this process. Dropping it ends it.
pub(super) struct Worker {
    pub(super) done: Arc<WorkDone>,
    connections: JoinSet<Result<(), Failure>>,
}

/// The leases of an answer.
#[derive(Deserialize)]
pub(super) struct Leases<'a> {
    #[serde(borrow)]
    pub(super) leases: Vec<Lease<'a>>,
}

/// The fields of a lease that the worker reads. It reads the input as a handler would.
#[derive(Deserialize)]
pub(super) struct Lease<'a> {
    #[serde(rename = "lease")]
    pub(super) text: &'a str,
    pub(super) task_id: &'a str,
    input: Input,
}

#[derive(Deserialize)]
struct Input {
    t0: u64,
    timed: bool,
}

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    items: Vec<Reported<'a>>,
}

#[derive(Deserialize)]
struct Reported<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
}

impl Worker {
    pub(super) async fn start(scope: &Scope, shape: WorkerShape) -> Result<Self, Failure> {
        let done = Arc::new(WorkDone::default());
        // Leases that wait for their report; when the channel is full, takers wait.
        let (send, receive) = mpsc::channel(shape.max.max(REPORT) * 2);
        let receive = Arc::new(tokio::sync::Mutex::new(receive));
        let mut set = JoinSet::new();
        for taker in 0..shape.takers {
            let wire = Wire::open(scope.server_of(taker)).await?;
            set.spawn(take(wire, scope.clone(), shape.max, done.clone(), send.clone()));
        }
        for reporter in 0..shape.reporters {
            let wire = Wire::open(scope.server_of(reporter)).await?;
            set.spawn(report(wire, done.clone(), receive.clone()));
        }
        Ok(Self { done, connections: set })
    }

    /// Waits until this many ends are acknowledged.
    pub(super) async fn until_ended(&mut self, tasks: u64) -> Result<(), Failure> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let ended = self.done.ended.load(Ordering::Relaxed);
            if ended >= tasks {
                return Ok(());
            }
            if ended > last {
                (last, since) = (ended, Instant::now());
            } else if since.elapsed() > STALLED {
                let handled = self.done.handled.load(Ordering::Relaxed);
                let what = format!("{tasks} tasks were there, {handled} came, {ended} ended, and nothing moves");
                return Err(Failure::failed(what));
            }
            tokio::select! {
                ended = self.connections.join_next() => if let Some(ended) = ended {
                    ended.map_err(|error| Failure::failed(error.to_string()))??;
                },
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    }

    /// The waits of timed tasks since the last call.
    pub(super) fn take_waits(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.done.waits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The body of a take.
pub(super) fn take_body(kind: &str, max: usize, wait_s: u32) -> Bytes {
    format!("{{\"worker\":\"bench\",\"kinds\":[\"{kind}\"],\"max\":{max},\"wait_s\":{wait_s}}}").into()
}

/// The body of a report.
pub(super) fn report_body<'a>(leases: impl Iterator<Item = &'a str>, outcome: &str) -> Bytes {
    let mut body = String::from("{\"items\":[");
    for (index, lease) in leases.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string never fails.
        let _ = write!(body, "{comma}{{\"lease\":\"{lease}\",\"outcome\":\"{outcome}\"}}");
    }
    body.push_str("]}");
    body.into()
}

/// Reports ends. Fails unless the server records each with this outcome.
pub(super) async fn report_ends(wire: &mut Wire, leases: &[String], outcome: &str) -> Result<(), Failure> {
    let body = report_body(leases.iter().map(String::as_str), outcome);
    let answer = wire.post("/v1/leases/finish", body, StatusCode::OK).await?;
    let Report { items } = parse(&answer.body)?;
    let ended = items.iter().filter(|item| item.status == Some(outcome)).count();
    if ended != leases.len() {
        let text = String::from_utf8_lossy(&answer.body);
        return Err(Failure::failed(format!("{ended} of {} ends were taken as {outcome}: {text:.500}", leases.len())));
    }
    Ok(())
}

async fn take(
    mut wire: Wire,
    scope: Scope,
    max: usize,
    done: Arc<WorkDone>,
    send: Sender<Vec<String>>,
) -> Result<(), Failure> {
    let body = take_body(&scope.kind, max, 30);
    loop {
        let answer = wire.post("/v1/leases", body.clone(), StatusCode::OK).await?;
        let Leases { leases } = parse(&answer.body)?;
        if leases.is_empty() {
            continue;
        }
        let now = Instant::now();
        done.first.get_or_init(|| now);
        done.handled.fetch_add(leases.len() as u64, Ordering::Relaxed);
        done.takes.fetch_add(1, Ordering::Relaxed);
        let timed = leases.iter().filter(|lease| lease.input.timed);
        let waits = timed.map(|lease| (now - scope.began).saturating_sub(Duration::from_nanos(lease.input.t0)));
        done.waits.lock().unwrap_or_else(PoisonError::into_inner).extend(waits);
        let ends = leases.iter().map(|lease| lease.text.to_owned()).collect();
        if send.send(ends).await.is_err() {
            return Ok(());
        }
    }
}

/// Reports the ends that arrived while the last report was under way.
async fn report(
    mut wire: Wire,
    done: Arc<WorkDone>,
    receive: Arc<tokio::sync::Mutex<Receiver<Vec<String>>>>,
) -> Result<(), Failure> {
    let mut left: Vec<String> = Vec::new();
    loop {
        if left.is_empty() {
            let mut receive = receive.lock().await;
            let Some(first) = receive.recv().await else { return Ok(()) };
            left = first;
            while left.len() < REPORT
                && let Ok(more) = receive.try_recv()
            {
                left.extend(more);
            }
        }
        let rest = left.split_off(left.len().min(REPORT));
        report_ends(&mut wire, &left, "succeeded").await?;
        done.ended.fetch_add(left.len() as u64, Ordering::Relaxed);
        done.reports.fetch_add(1, Ordering::Relaxed);
        left = rest;
    }
}
