//! The phase sockets: how long a create and the read of the created task take while many websockets are open, and how soon the
//! sockets have the new counters. Without sockets, with sockets whose bells show the created tasks, and with sockets of other
//! owners, one after the other on the same server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::BenchPlan;
use super::connection::LoadConnection;
use super::figures::Figures;
use super::idle_sockets::IdleSockets;
use super::load::{RunScope, parse_json};
use super::phases::ratio;
use super::server::{Server, process_cpu_time};
use crate::cli::command_error::CommandError;

/// The numbers of connections of the load.
const CONNECTIONS: [usize; 2] = [1, 8];
/// The pause before a change that reaches idle sockets. After it, no frames are pending, and the server counts a socket as idle.
const IDLE_PAUSE: Duration = Duration::from_millis(600);
/// The pause between two measurements of the last socket under load.
const LOADED_PAUSE: Duration = Duration::from_millis(50);

/// The open sockets during a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bells {
    None,
    /// The bells show the created tasks.
    Own,
    /// Each bell shows the tasks of another owner, who has none.
    Others,
}

impl Bells {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Own => "own",
            Self::Others => "others",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::None => "without sockets",
            Self::Own => "with sockets of the same bell",
            Self::Others => "with sockets of other owners",
        }
    }

    /// The paths of the sockets.
    fn paths(self, scope: &RunScope, count: usize) -> Vec<String> {
        let own = scope.owner.as_ref().map_or_else(String::new, |owner| format!("?owner={owner}"));
        let path = |number| match self {
            Self::None => None,
            Self::Own => Some(format!("/v1/live{own}")),
            Self::Others => Some(format!("/v1/live?owner=nobody-{number}")),
        };
        (0..count).filter_map(path).collect()
    }
}

/// Runs the phase on this server.
pub(super) async fn run(
    server: &Server,
    scope: &RunScope,
    plan: &BenchPlan,
    figures: &mut Figures,
) -> Result<(), CommandError> {
    raise_open_files();
    for bells in [Bells::None, Bells::Own, Bells::Others] {
        let sockets = IdleSockets::open(&scope.server, bells.paths(scope, plan.sockets)).await?;
        let phase = SocketsPhase { server, scope, plan, bells, sockets: &sockets };
        for connections in CONNECTIONS {
            tokio::time::sleep(IDLE_PAUSE).await;
            phase.load(connections, figures).await?;
        }
        if bells == Bells::Own {
            phase.reach_idle_sockets(figures).await?;
        }
    }
    add_ratios(figures);
    Ok(())
}

/// One measurement: a server with these sockets.
struct SocketsPhase<'a> {
    server: &'a Server,
    scope: &'a RunScope,
    plan: &'a BenchPlan,
    bells: Bells,
    sockets: &'a IdleSockets,
}

#[derive(Deserialize)]
struct CreatedTask<'a> {
    id: &'a str,
    position: u64,
}

impl SocketsPhase<'_> {
    /// Creates and reads tasks on so many connections, each waiting for the response. Adds the times of a create and a read
    /// together, the CPU time, and how soon the sockets have the counters meanwhile.
    async fn load(&self, connections: usize, figures: &mut Figures) -> Result<(), CommandError> {
        let newest = std::sync::Arc::new(AtomicU64::new(0));
        let (until, mut clients) = (Instant::now() + self.plan.produce_for, JoinSet::new());
        let (begun, frames, cpu) = (Instant::now(), self.sockets.frames(), self.cpu_times());
        for _ in 0..connections {
            clients.spawn(create_and_read(self.scope.clone(), until, newest.clone()));
        }
        let mut last_socket = Vec::new();
        while self.bells == Bells::Own && Instant::now() + 2 * LOADED_PAUSE < until {
            tokio::time::sleep(LOADED_PAUSE).await;
            last_socket.push(self.sockets.wait_for(newest.load(Ordering::Relaxed), Instant::now()).await?);
        }
        let mut times = Vec::new();
        while let Some(ended) = clients.join_next().await {
            times.extend(ended.map_err(|error| CommandError::failed(error.to_string()))??);
        }
        let (took, cpu_after) = (begun.elapsed().as_secs_f64(), self.cpu_times());
        let name = format!("sockets_{}_{connections}", self.bells.name());
        let label = format!("create and read, {connections} connections, {}", self.bells.label());
        figures.add(&format!("{name}_per_s"), &format!("{label}, tasks/s"), ratio(times.len() as u64, took));
        figures.add_durations(&name, &label, times);
        for (process, before, after) in [("server", cpu[0], cpu_after[0]), ("load", cpu[1], cpu_after[1])] {
            if let (Some(before), Some(after)) = (before, after) {
                let share = after.saturating_sub(before).as_secs_f64() / took * 100.0;
                figures.add(
                    &format!("{name}_{process}_cpu_percent"),
                    &format!("  {process}'s CPU, % of a core"),
                    share,
                );
            }
        }
        if self.bells == Bells::Own {
            let per_socket = ratio(self.sockets.frames() - frames, took) / ratio(self.plan.sockets as u64, 1.0);
            figures.add(&format!("{name}_frames_per_s"), "  frames per socket and second", per_socket);
            figures.add_durations(
                &format!("{name}_last_socket"),
                "  until the last socket has the counters",
                last_socket,
            );
        }
        Ok(())
    }

    /// Creates a task for idle sockets, again and again. Adds the times from its response until the last socket has the counters.
    async fn reach_idle_sockets(&self, figures: &mut Figures) -> Result<(), CommandError> {
        let mut connection = LoadConnection::open(&self.scope.server).await?;
        let mut times = Vec::new();
        for _ in 0..self.plan.idle_changes {
            tokio::time::sleep(IDLE_PAUSE).await;
            let position = create(self.scope, &mut connection).await?.1;
            times.push(self.sockets.wait_for(position, Instant::now()).await?);
        }
        let label = "one change for idle sockets, until the last has the counters";
        figures.add_durations("sockets_idle_last_socket", label, times);
        Ok(())
    }

    /// The CPU times so far of the server, if this process started it, and of this process.
    fn cpu_times(&self) -> [Option<Duration>; 2] {
        [self.server.pid(), Some(std::process::id())].map(|pid| pid.and_then(process_cpu_time))
    }
}

/// Creates a task and reads it, again and again. Returns the time of each pair.
async fn create_and_read(
    scope: RunScope,
    until: Instant,
    newest: std::sync::Arc<AtomicU64>,
) -> Result<Vec<Duration>, CommandError> {
    let mut connection = LoadConnection::open(&scope.server).await?;
    let mut times = Vec::new();
    while Instant::now() < until {
        let begun = Instant::now();
        let (id, position) = create(&scope, &mut connection).await?;
        newest.fetch_max(position, Ordering::Relaxed);
        connection.get(&format!("/v1/tasks/{id}")).await?;
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// Creates a task. Returns its id and position.
async fn create(scope: &RunScope, connection: &mut LoadConnection) -> Result<(String, u64), CommandError> {
    let number = scope.created_count.fetch_add(1, Ordering::Relaxed);
    let response = connection.post("/v1/tasks", scope.task_body(number, false), StatusCode::CREATED).await?;
    let CreatedTask { id, position } = parse_json(&response.body)?;
    Ok((id.to_owned(), position))
}

/// Adds the times with sockets, divided by the times without.
fn add_ratios(figures: &mut Figures) {
    for bells in [Bells::Own, Bells::Others] {
        for connections in CONNECTIONS {
            let last = |bells: Bells| figures.last(&format!("sockets_{}_{connections}_p50_ms", bells.name()));
            if let (Some(with), Some(without)) = (last(bells), last(Bells::None)) {
                let label = format!("create and read, {connections} connections, p50 {} / without", bells.label());
                figures.add(&format!("sockets_ratio_{}_{connections}_p50", bells.name()), &label, with / without);
            }
        }
    }
}

/// Raises the limit of open files as far as the system allows.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, the connections that are too many fail.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
