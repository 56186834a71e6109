//! The producers of the load. They create tasks one by one on several connections, or in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::connection::{LoadConnection, ServerAddress};
use crate::cli::command_error::CommandError;

/// The size of a task's input as JSON, in bytes.
pub(super) const INPUT_BYTES: usize = 200;
/// The number of tasks that are created before a measurement starts.
pub(super) const WARM_UP_TASKS: u64 = 100;

/// Identifies the tasks of one run on its servers. The figures and the check at the end are about these tasks only.
#[derive(Clone, Debug)]
pub(super) struct RunScope {
    pub(super) server: ServerAddress,
    /// Other servers that use the same log.
    pub(super) other_servers: Vec<ServerAddress>,
    /// The kind of the tasks.
    pub(super) kind: String,
    /// The owner of the tasks on a named server, which may have other tasks too. `None` on a server that the bench started.
    pub(super) owner: Option<String>,
    /// The times in the inputs of the tasks are counted from this time.
    pub(super) clock_origin: Instant,
    /// The number of tasks that the servers have acknowledged.
    pub(super) created_count: Arc<AtomicU64>,
}

/// How many tasks the producers created, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadResult {
    pub(super) tasks: u64,
    pub(super) took: Duration,
}

impl LoadResult {
    #[allow(clippy::cast_precision_loss)]
    /// Tasks per second.
    pub(super) fn rate(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }
}

impl RunScope {
    /// The server for the connection with this number. Consecutive connections use different servers.
    pub(super) fn server_for_connection(&self, connection: usize) -> &ServerAddress {
        let index = connection % (self.other_servers.len() + 1);
        index.checked_sub(1).and_then(|index| self.other_servers.get(index)).unwrap_or(&self.server)
    }

    /// The same server and owner with another kind.
    pub(super) fn with_kind_suffix(&self, suffix: &str) -> Self {
        Self { kind: format!("{}.{suffix}", self.kind), ..self.clone() }
    }

    /// Writes one task as JSON. `t0` in its input is the present time; the latency of a `timed` task is measured from
    /// that time. `pad` fills the input up to [`INPUT_BYTES`].
    pub(super) fn write_task(&self, out: &mut Vec<u8>, number: u64, timed: bool) {
        use std::io::Write as _;
        let now = self.clock_origin.elapsed().as_nanos();
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(self.kind.as_bytes());
        if let Some(owner) = &self.owner {
            out.extend_from_slice(b"\",\"owner\":\"");
            out.extend_from_slice(owner.as_bytes());
        }
        out.extend_from_slice(b"\",\"input\":");
        let input_start = out.len();
        // Writing to a vector never fails.
        let _ = write!(
            out,
            "{{\"id\":{number},\"kind\":\"email.send\",\"to\":\"user{number:08}@example.com\",\"t0\":{now},\"timed\":{timed},\"pad\":\""
        );
        out.resize((input_start + INPUT_BYTES - 2).max(out.len()), b'x');
        out.extend_from_slice(b"\"}}");
    }

    /// The body of a request that creates one task.
    pub(super) fn task_body(&self, number: u64, timed: bool) -> Bytes {
        let mut body = Vec::with_capacity(320);
        self.write_task(&mut body, number, timed);
        body.into()
    }

    /// The body of a request that creates `size` tasks, numbered from `first`.
    pub(super) fn batch_body(&self, first: u64, size: u64) -> Bytes {
        let mut body = Vec::with_capacity(320 * usize::try_from(size).unwrap_or_default());
        body.extend_from_slice(b"{\"items\":[");
        for number in first..first + size {
            if number > first {
                body.push(b',');
            }
            self.write_task(&mut body, number, false);
        }
        body.extend_from_slice(b"]}");
        body.into()
    }

    /// Creates one task and waits until it is durable.
    pub(super) async fn create(
        &self,
        connection: &mut LoadConnection,
        number: u64,
        timed: bool,
    ) -> Result<(), CommandError> {
        connection.post("/v1/tasks", self.task_body(number, timed), StatusCode::CREATED).await?;
        self.created_count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Creates a batch of tasks. Fails if the server refuses one of them.
    pub(super) async fn create_batch(
        &self,
        connection: &mut LoadConnection,
        first: u64,
        size: u64,
    ) -> Result<(), CommandError> {
        let response = connection.post("/v1/tasks/batch", self.batch_body(first, size), StatusCode::OK).await?;
        let BatchResponse { items } = parse_json(&response.body)?;
        let accepted = items.iter().filter(|item| item.id.is_some()).count() as u64;
        if accepted != size {
            let text = String::from_utf8_lossy(&response.body);
            return Err(CommandError::failed(format!(
                "the server accepted only {accepted} of {size} tasks of a batch: {text:.500}"
            )));
        }
        self.created_count.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Deserialize)]
struct BatchResponse<'a> {
    #[serde(borrow)]
    items: Vec<BatchItem<'a>>,
}

#[derive(Deserialize)]
struct BatchItem<'a> {
    id: Option<&'a str>,
}

/// Parses the body of a response.
pub(super) fn parse_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, CommandError> {
    serde_json::from_slice(body).map_err(|error| CommandError::failed(format!("unexpected response: {error}")))
}

/// Gives each request number to one of the producers, until the last number is used or the time limit is over.
struct RequestNumbers {
    next: AtomicU64,
    end: u64,
    until: Instant,
}

impl RequestNumbers {
    /// The next number; `None` after the last number or after the time limit.
    fn next(&self) -> Option<u64> {
        if Instant::now() >= self.until {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|request_number| *request_number < self.end)
    }
}

/// What the producers send: `requests` requests on `connections` connections. They stop earlier when `time_limit` is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadSpec {
    pub(super) connections: usize,
    pub(super) requests: u64,
    /// The number of tasks in one request; `None`: each request creates a single task.
    pub(super) batch_size: Option<u64>,
    pub(super) time_limit: Duration,
}

/// Creates some tasks to warm up, and then the measured tasks. A task is counted when it is acknowledged.
pub(super) async fn produce(scope: &RunScope, spec: LoadSpec) -> Result<LoadResult, CommandError> {
    let mut connections = Vec::with_capacity(spec.connections);
    for connection in 0..spec.connections {
        connections.push(LoadConnection::open(scope.server_for_connection(connection)).await?);
    }
    let warm_up = match spec.batch_size {
        None => LoadSpec { requests: WARM_UP_TASKS, time_limit: Duration::from_secs(2), ..spec },
        Some(size) => LoadSpec { connections: 1, requests: 1, batch_size: Some(size.min(WARM_UP_TASKS)), ..spec },
    };
    let (connections, _) = run_producers(scope, connections, warm_up).await?;
    let (_, load_result) = run_producers(scope, connections, spec).await?;
    Ok(load_result)
}

/// Runs a producer on each connection. Returns the connections and the result.
async fn run_producers(
    scope: &RunScope,
    connections: Vec<LoadConnection>,
    spec: LoadSpec,
) -> Result<(Vec<LoadConnection>, LoadResult), CommandError> {
    let started_at = Instant::now();
    let request_numbers =
        Arc::new(RequestNumbers { next: AtomicU64::new(0), end: spec.requests, until: started_at + spec.time_limit });
    let mut producers = JoinSet::new();
    for mut connection in connections {
        let (scope, request_numbers) = (scope.clone(), request_numbers.clone());
        producers.spawn(async move {
            let mut tasks = 0;
            while let Some(request_number) = request_numbers.next() {
                match spec.batch_size {
                    None => scope.create(&mut connection, request_number, false).await?,
                    Some(size) => scope.create_batch(&mut connection, request_number * size, size).await?,
                }
                tasks += spec.batch_size.unwrap_or(1);
            }
            Ok::<_, CommandError>((connection, tasks))
        });
    }
    let (mut connections, mut tasks) = (Vec::new(), 0);
    while let Some(ended) = producers.join_next().await {
        let (connection, created) = ended.map_err(|error| CommandError::failed(error.to_string()))??;
        connections.push(connection);
        tasks += created;
    }
    Ok((connections, LoadResult { tasks, took: started_at.elapsed() }))
}
