//! The producers: they create tasks one by one from several connections, or in batches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::wire::{ServerAddress, Wire};
use crate::cli::failure::Failure;

/// Bytes of an input, as JSON.
pub(super) const INPUT: usize = 200;
/// Tasks that are created before the measurement.
pub(super) const WARM: u64 = 100;

/// The tasks of one run: all figures, and the check at the end, are about them alone.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) server: ServerAddress,
    /// Other servers over the same log.
    pub(super) others: Vec<ServerAddress>,
    /// The kind of the work.
    pub(super) kind: String,
    /// The owner on a server that others use too; none on a server that this process started.
    pub(super) owner: Option<String>,
    /// The zero of all instants that tasks carry.
    pub(super) began: Instant,
    /// How many tasks the server has acknowledged.
    pub(super) created: Arc<AtomicU64>,
}

/// How many tasks were created, and how long it took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Produced {
    pub(super) tasks: u64,
    pub(super) took: Duration,
}

impl Produced {
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn rate(&self) -> f64 {
        self.tasks as f64 / self.took.as_secs_f64()
    }
}

impl Scope {
    /// The server of the connection with this number: connections are spread over all servers.
    pub(super) fn server_of(&self, connection: usize) -> &ServerAddress {
        let place = connection % (self.others.len() + 1);
        place.checked_sub(1).and_then(|other| self.others.get(other)).unwrap_or(&self.server)
    }

    /// The same server and owner with another kind.
    pub(super) fn of_kind(&self, suffix: &str) -> Self {
        Self { kind: format!("{}.{suffix}", self.kind), ..self.clone() }
    }

    /// Writes one task as JSON. A `timed` task is measured by the time in its input.
    pub(super) fn write(&self, out: &mut Vec<u8>, number: u64, timed: bool) {
        use std::io::Write as _;
        let now = self.began.elapsed().as_nanos();
        out.extend_from_slice(b"{\"kind\":\"");
        out.extend_from_slice(self.kind.as_bytes());
        if let Some(owner) = &self.owner {
            out.extend_from_slice(b"\",\"owner\":\"");
            out.extend_from_slice(owner.as_bytes());
        }
        out.extend_from_slice(b"\",\"input\":");
        let from = out.len();
        // Writing to a vector never fails.
        let _ = write!(
            out,
            "{{\"id\":{number},\"kind\":\"email.send\",\"to\":\"user{number:08}@example.com\",\"t0\":{now},\"timed\":{timed},\"pad\":\""
        );
        out.resize((from + INPUT - 2).max(out.len()), b'x');
        out.extend_from_slice(b"\"}}");
    }

    pub(super) fn one(&self, number: u64, timed: bool) -> Bytes {
        let mut body = Vec::with_capacity(320);
        self.write(&mut body, number, timed);
        body.into()
    }

    pub(super) fn batch(&self, first: u64, size: u64) -> Bytes {
        let mut body = Vec::with_capacity(320 * usize::try_from(size).unwrap_or_default());
        body.extend_from_slice(b"{\"items\":[");
        for number in first..first + size {
            if number > first {
                body.push(b',');
            }
            self.write(&mut body, number, false);
        }
        body.extend_from_slice(b"]}");
        body.into()
    }

    /// Creates one task and waits until it is durable.
    pub(super) async fn create(&self, wire: &mut Wire, number: u64, timed: bool) -> Result<(), Failure> {
        wire.post("/v1/tasks", self.one(number, timed), StatusCode::CREATED).await?;
        self.created.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Creates a batch, and fails if one of its tasks was refused.
    pub(super) async fn create_batch(&self, wire: &mut Wire, first: u64, size: u64) -> Result<(), Failure> {
        let answer = wire.post("/v1/tasks/batch", self.batch(first, size), StatusCode::OK).await?;
        let BatchAnswer { items } = parse(&answer.body)?;
        let accepted = items.iter().filter(|item| item.id.is_some()).count() as u64;
        if accepted != size {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(Failure::failed(format!("{accepted} of {size} tasks of a batch were accepted: {text:.500}")));
        }
        self.created.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(Deserialize)]
struct BatchAnswer<'a> {
    #[serde(borrow)]
    items: Vec<BatchItem<'a>>,
}

#[derive(Deserialize)]
struct BatchItem<'a> {
    id: Option<&'a str>,
}

/// The answer as JSON.
pub(super) fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure::failed(format!("the server answered something else than was asked: {error}")))
}

/// The turns that several producers share: the next number, and the end.
struct Turns {
    next: AtomicU64,
    end: u64,
    until: Instant,
}

impl Turns {
    fn take(&self) -> Option<u64> {
        if Instant::now() >= self.until {
            return None;
        }
        Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|turn| *turn < self.end)
    }
}

/// The work of producers: `calls` requests from `connections` connections, for `at_most` this long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) connections: usize,
    pub(super) calls: u64,
    /// Tasks in one request; none: one by one.
    pub(super) batch: Option<u64>,
    pub(super) at_most: Duration,
}

/// Warms up, then creates tasks. A task counts when it is acknowledged.
pub(super) async fn produce(scope: &Scope, order: Order) -> Result<Produced, Failure> {
    let mut wires = Vec::with_capacity(order.connections);
    for connection in 0..order.connections {
        wires.push(Wire::open(scope.server_of(connection)).await?);
    }
    let warm = match order.batch {
        None => Order { calls: WARM, at_most: Duration::from_secs(2), ..order },
        Some(size) => Order { connections: 1, calls: 1, batch: Some(size.min(WARM)), ..order },
    };
    let (wires, _) = round(scope, wires, warm).await?;
    let (_, produced) = round(scope, wires, order).await?;
    Ok(produced)
}

async fn round(scope: &Scope, wires: Vec<Wire>, order: Order) -> Result<(Vec<Wire>, Produced), Failure> {
    let began = Instant::now();
    let turns = Arc::new(Turns { next: AtomicU64::new(0), end: order.calls, until: began + order.at_most });
    let mut producers = JoinSet::new();
    for mut wire in wires {
        let (scope, turns) = (scope.clone(), turns.clone());
        producers.spawn(async move {
            let mut tasks = 0;
            while let Some(turn) = turns.take() {
                match order.batch {
                    None => scope.create(&mut wire, turn, false).await?,
                    Some(size) => scope.create_batch(&mut wire, turn * size, size).await?,
                }
                tasks += order.batch.unwrap_or(1);
            }
            Ok::<_, Failure>((wire, tasks))
        });
    }
    let (mut wires, mut tasks) = (Vec::new(), 0);
    while let Some(ended) = producers.join_next().await {
        let (wire, made) = ended.map_err(|error| Failure::failed(error.to_string()))??;
        wires.push(wire);
        tasks += made;
    }
    Ok((wires, Produced { tasks, took: began.elapsed() }))
}
