//! The worker of the load. Some of its connections take leases, and the others report the ends of attempts in batches.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinSet;

use super::connection::LoadConnection;
use super::load::{RunScope, parse_json};
use crate::cli::command_error::CommandError;

/// The most ends in one report.
const ENDS_PER_REPORT_MAX: usize = 1000;
/// The run fails if no end is acknowledged for this long.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of a worker's connections, and the size of its takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WorkerConnections {
    /// Connections that take leases.
    pub(super) takers: usize,
    /// The most leases that one request takes.
    pub(super) leases_per_take: usize,
    /// Connections that report ends.
    pub(super) reporters: usize,
}

/// Counts and latencies of the worker so far.
#[derive(Debug, Default)]
pub(super) struct WorkerProgress {
    /// The number of handlers started.
    pub(super) started_handlers: AtomicU64,
    /// The number of ends that the server has acknowledged.
    pub(super) ended: AtomicU64,
    /// The number of requests that returned leases.
    pub(super) takes: AtomicU64,
    /// The number of reports.
    pub(super) reports: AtomicU64,
    /// When the first handler started.
    pub(super) first_start: OnceLock<Instant>,
    /// For each timed task, the time from just before the request that created it to the start of its handler.
    pub(super) start_latencies: Mutex<Vec<Duration>>,
}

/// A worker inside this process. It ends when this value is dropped.
pub(super) struct Worker {
    pub(super) progress: Arc<WorkerProgress>,
    tasks: JoinSet<Result<(), CommandError>>,
}

/// The response to a request for leases.
#[derive(Deserialize)]
pub(super) struct LeasesResponse<'a> {
    #[serde(borrow)]
    pub(super) leases: Vec<Lease<'a>>,
}

/// The fields of a lease that the worker reads. They include the input, because a real handler reads it too.
#[derive(Deserialize)]
pub(super) struct Lease<'a> {
    /// The secret of the attempt, which each report about it must contain.
    #[serde(rename = "lease")]
    pub(super) secret: &'a str,
    pub(super) task_id: &'a str,
    input: TaskInput,
}

#[derive(Deserialize)]
struct TaskInput {
    /// When the request was sent, in nanoseconds since [`RunScope::clock_origin`].
    #[serde(rename = "t0")]
    sent_at: u64,
    timed: bool,
}

#[derive(Deserialize)]
struct ReportResponse<'a> {
    #[serde(borrow)]
    items: Vec<ReportedEnd<'a>>,
}

#[derive(Deserialize)]
struct ReportedEnd<'a> {
    #[serde(borrow)]
    status: Option<&'a str>,
}

impl Worker {
    /// Opens the connections and starts to take leases.
    pub(super) async fn start(scope: &RunScope, connections: WorkerConnections) -> Result<Self, CommandError> {
        let progress = Arc::new(WorkerProgress::default());
        // The channel carries leases from the takers to the reporters. When it is full, the takers wait.
        let (sender, receiver) = mpsc::channel(connections.leases_per_take.max(ENDS_PER_REPORT_MAX) * 2);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        let mut tasks = JoinSet::new();
        for taker in 0..connections.takers {
            let connection = LoadConnection::open(scope.server_for_connection(taker)).await?;
            tasks.spawn(run_taker(
                connection,
                scope.clone(),
                connections.leases_per_take,
                progress.clone(),
                sender.clone(),
            ));
        }
        for reporter in 0..connections.reporters {
            let connection = LoadConnection::open(scope.server_for_connection(reporter)).await?;
            tasks.spawn(run_reporter(connection, progress.clone(), receiver.clone()));
        }
        Ok(Self { progress, tasks })
    }

    /// Waits until this many ends are acknowledged since the start of the worker.
    ///
    /// # Errors
    /// A connection failed, or no end was acknowledged for [`STALL_TIMEOUT`].
    pub(super) async fn wait_for_ends(&mut self, tasks: u64) -> Result<(), CommandError> {
        let (mut last_count, mut last_change) = (0, Instant::now());
        loop {
            let ended = self.progress.ended.load(Ordering::Relaxed);
            if ended >= tasks {
                return Ok(());
            }
            if ended > last_count {
                (last_count, last_change) = (ended, Instant::now());
            } else if last_change.elapsed() > STALL_TIMEOUT {
                let started = self.progress.started_handlers.load(Ordering::Relaxed);
                let message = format!(
                    "of {tasks} tasks, {started} were leased and {ended} ended; no progress for {} s",
                    STALL_TIMEOUT.as_secs()
                );
                return Err(CommandError::failed(message));
            }
            tokio::select! {
                ended = self.tasks.join_next() => if let Some(ended) = ended {
                    ended.map_err(|error| CommandError::failed(error.to_string()))??;
                },
                () = tokio::time::sleep(Duration::from_millis(2)) => {}
            }
        }
    }

    /// Removes and returns the latencies that were stored since the last call.
    pub(super) fn take_start_latencies(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.progress.start_latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The body of a request for at most `max` leases that waits at most `wait_s` seconds for the first.
pub(super) fn take_request_body(kind: &str, max: usize, wait_s: u32) -> Bytes {
    format!("{{\"worker\":\"bench\",\"kinds\":[\"{kind}\"],\"max\":{max},\"wait_s\":{wait_s}}}").into()
}

/// The body of a report that all these leases ended with `outcome`.
pub(super) fn report_request_body<'a>(leases: impl Iterator<Item = &'a str>, outcome: &str) -> Bytes {
    let mut body = String::from("{\"items\":[");
    for (index, lease) in leases.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a string never fails.
        let _ = write!(body, "{comma}{{\"lease\":\"{lease}\",\"outcome\":\"{outcome}\"}}");
    }
    body.push_str("]}");
    body.into()
}

/// Reports the ends of attempts. Fails unless the server records each with this outcome.
pub(super) async fn report_ends(
    connection: &mut LoadConnection,
    leases: &[String],
    outcome: &str,
) -> Result<(), CommandError> {
    let body = report_request_body(leases.iter().map(String::as_str), outcome);
    let response = connection.post("/v1/leases/finish", body, StatusCode::OK).await?;
    let ReportResponse { items } = parse_json(&response.body)?;
    let ended = items.iter().filter(|item| item.status == Some(outcome)).count();
    if ended != leases.len() {
        let text = String::from_utf8_lossy(&response.body);
        return Err(CommandError::failed(format!(
            "the server recorded only {ended} of {} ends as {outcome}: {text:.500}",
            leases.len()
        )));
    }
    Ok(())
}

/// Takes leases again and again, and sends them to the reporters.
async fn run_taker(
    mut connection: LoadConnection,
    scope: RunScope,
    leases_per_take: usize,
    progress: Arc<WorkerProgress>,
    sender: Sender<Vec<String>>,
) -> Result<(), CommandError> {
    let body = take_request_body(&scope.kind, leases_per_take, 30);
    loop {
        let response = connection.post("/v1/leases", body.clone(), StatusCode::OK).await?;
        let LeasesResponse { leases } = parse_json(&response.body)?;
        if leases.is_empty() {
            continue;
        }
        let now = Instant::now();
        progress.first_start.get_or_init(|| now);
        progress.started_handlers.fetch_add(leases.len() as u64, Ordering::Relaxed);
        progress.takes.fetch_add(1, Ordering::Relaxed);
        let timed = leases.iter().filter(|lease| lease.input.timed);
        let latencies =
            timed.map(|lease| (now - scope.clock_origin).saturating_sub(Duration::from_nanos(lease.input.sent_at)));
        progress.start_latencies.lock().unwrap_or_else(PoisonError::into_inner).extend(latencies);
        let ends = leases.iter().map(|lease| lease.secret.to_owned()).collect();
        if sender.send(ends).await.is_err() {
            return Ok(());
        }
    }
}

/// Reports ends again and again. Each report has the ends that the takers sent during the previous report.
async fn run_reporter(
    mut connection: LoadConnection,
    progress: Arc<WorkerProgress>,
    receiver: Arc<tokio::sync::Mutex<Receiver<Vec<String>>>>,
) -> Result<(), CommandError> {
    let mut unreported: Vec<String> = Vec::new();
    loop {
        if unreported.is_empty() {
            let mut receiver = receiver.lock().await;
            let Some(first) = receiver.recv().await else { return Ok(()) };
            unreported = first;
            while unreported.len() < ENDS_PER_REPORT_MAX
                && let Ok(more) = receiver.try_recv()
            {
                unreported.extend(more);
            }
        }
        let rest = unreported.split_off(unreported.len().min(ENDS_PER_REPORT_MAX));
        report_ends(&mut connection, &unreported, "succeeded").await?;
        progress.ended.fetch_add(unreported.len() as u64, Ordering::Relaxed);
        progress.reports.fetch_add(1, Ordering::Relaxed);
        unreported = rest;
    }
}
