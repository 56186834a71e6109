//! Compares the live phase on the embedded log, on one server with a cluster, and on two servers with the same cluster.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::check::{counts, head_position, verify};
use super::connection::LoadConnection;
use super::figures::Figures;
use super::load::{LoadSpec, RunScope, produce};
use super::phases::{PRODUCERS, TASKS_MAX_OF_ALL_PRODUCERS, ratio};
use super::server::{Server, process_cpu_time};
use super::store::{BenchStore, with_prefix};
use super::worker::Worker;
use super::{BenchPlan, new_scope};
use crate::cli::command_error::CommandError;
use crate::cli::console;
use crate::cli::settings::EmbeddedStore;

/// The longest time until a server is ready, or until it shows an event that another server wrote.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause before a request to a server is repeated.
const REQUEST_PAUSE: Duration = Duration::from_millis(20);

/// Runs the live phase on the embedded log, on one server with the cluster at `url`, and on two. Returns the number of
/// tasks that were checked.
pub(super) async fn compare_with_embedded(
    url: &str,
    plan: &BenchPlan,
    figures: &mut Figures,
) -> Result<u64, CommandError> {
    let embedded = BenchStore::Embedded(EmbeddedStore::Sqlite);
    let mut checked = run_live(&embedded, 1, ("embedded", "embedded log"), plan, figures).await?;
    for (count, name, label) in [(1, "one_server", "cluster, 1 server"), (2, "two_servers", "cluster, 2 servers")] {
        let prefix = format!("bench{}", &Uuid::new_v4().simple().to_string()[..8]);
        console::print_to_stderr(&format!("{label}: its streams stay in the database, with the prefix {prefix}"));
        let store = BenchStore::Cluster(with_prefix(url, &prefix));
        checked += run_live(&store, count, (name, label), plan, figures).await?;
    }
    Ok(checked)
}

/// Starts `count` servers, measures the live phase, checks the log and stops the servers. Returns the number of tasks that
/// were checked.
async fn run_live(
    store: &BenchStore,
    count: usize,
    (name, label): (&str, &str),
    plan: &BenchPlan,
    figures: &mut Figures,
) -> Result<u64, CommandError> {
    let mut servers = Vec::with_capacity(count);
    for _ in 0..count {
        servers.push(Server::start(store).await?);
    }
    for server in &servers {
        wait_until_ready(server).await?;
    }
    let checked = match (measure_live(&servers, (name, label), plan, figures).await, servers.first_mut()) {
        (Ok(checked), _) => checked,
        (Err(failure), Some(first)) => return Err(first.explain_failure(failure).await),
        (Err(failure), None) => return Err(failure),
    };
    for server in servers {
        server.stop().await;
    }
    Ok(checked)
}

async fn wait_until_ready(server: &Server) -> Result<(), CommandError> {
    let started_at = Instant::now();
    loop {
        match LoadConnection::open(&server.address).await?.get("/readyz").await {
            Ok(_) => return Ok(()),
            Err(failure) if started_at.elapsed() > READY_TIMEOUT => return Err(failure),
            Err(_) => tokio::time::sleep(REQUEST_PAUSE).await,
        }
    }
}

/// Measures the live phase and checks the log. Returns the number of tasks that were checked.
async fn measure_live(
    servers: &[Server],
    (name, label): (&str, &str),
    plan: &BenchPlan,
    figures: &mut Figures,
) -> Result<u64, CommandError> {
    let Some((first, others)) = servers.split_first() else { return Ok(0) };
    let scope =
        RunScope { other_servers: others.iter().map(|server| server.address.clone()).collect(), ..new_scope(first) };
    let after = head_position(&mut LoadConnection::open(&scope.server).await?).await?;
    let cpu_before = cpu_time(servers);
    let mut worker = Worker::start(&scope, plan.worker).await?;
    let spec = LoadSpec {
        connections: PRODUCERS,
        requests: TASKS_MAX_OF_ALL_PRODUCERS,
        batch_size: None,
        time_limit: plan.live_for,
    };
    let load_result = produce(&scope, spec).await?;
    let since = Instant::now();
    let created = scope.created_count.load(Ordering::Relaxed);
    worker.wait_for_ends(created).await?;
    let took = load_result.took + since.elapsed();
    figures.add(
        &format!("live_{name}_per_s"),
        &format!("live, {label}, tasks/s"),
        ratio(load_result.tasks, took.as_secs_f64()),
    );
    let cpu_us = cpu_time(servers).saturating_sub(cpu_before).as_secs_f64() * 1e6;
    figures.add(&format!("live_{name}_server_cpu_us"), "  servers' CPU per task, µs", cpu_us / ratio(created, 1.0));
    for server in servers {
        let mut connection = LoadConnection::open(&server.address).await?;
        let started_at = Instant::now();
        // The events of another server may arrive at this server a moment later.
        while counts(&mut connection, &scope).await?.open() > 0 && started_at.elapsed() < READY_TIMEOUT {
            tokio::time::sleep(REQUEST_PAUSE).await;
        }
    }
    verify(&scope, after, true, 0).await
}

/// The CPU time of all servers together so far.
fn cpu_time(servers: &[Server]) -> Duration {
    servers.iter().filter_map(Server::pid).filter_map(process_cpu_time).sum()
}
