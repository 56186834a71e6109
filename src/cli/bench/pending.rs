//! The phase pending: the time to take a lease while many tasks are queued, and the memory and disk space of these tasks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::connection::LoadConnection;
use super::figures::{Figures, percentile};
use super::load::{LoadSpec, RunScope, parse_json, produce};
use super::phases::ratio;
use super::server::Server;
use super::worker::{LeasesResponse, report_ends, take_request_body};
use super::{BenchPlan, check};
use crate::cli::command_error::CommandError;

/// The number of leases in one round. Each round first creates as many tasks, so that the number of queued tasks stays
/// the same.
const LEASES_PER_ROUND: u64 = 100;

/// Creates a backlog of `size` tasks, then measures leases that are taken one by one and leases that are taken 100 at a
/// time.
pub(super) async fn run(
    server: &Server,
    scope: &RunScope,
    size: u64,
    plan: &BenchPlan,
    figures: &mut Figures,
) -> Result<(), CommandError> {
    let idle = server.usage();
    let requests = size.div_ceil(1000);
    let spec = LoadSpec { connections: 2, requests, batch_size: Some(1000), time_limit: Duration::from_hours(1) };
    let load_result = produce(scope, spec).await?;
    let label = |what: &str| format!("{size} pending: {what}");
    figures.add(&format!("pending_{size}_fill_per_s"), &label("create, tasks/s"), load_result.rate());
    if let (Some(idle), Some(now)) = (idle, server.usage()) {
        let tasks = ratio(scope.created_count.load(Ordering::Relaxed), 1.0);
        let per_task = |now: u64, idle: u64| ratio(now.saturating_sub(idle), tasks);
        let mut add =
            |name: &str, what: &str, value| figures.add(&format!("pending_{size}_{name}"), &label(what), value);
        add("memory_bytes_per_task", "memory per task, bytes", per_task(now.pss, idle.pss));
        add("disk_bytes_per_task", "disk per task, bytes", per_task(now.disk, idle.disk));
        add("rss_mb", "RSS, MB", ratio(now.rss, 1e6));
    }
    let mut connection = LoadConnection::open(&scope.server).await?;
    let mut add_percentiles = |name: &str, what: &str, mut times: Vec<Duration>| {
        times.sort_unstable();
        for (rank, percent) in [("p50", 50), ("p99", 99)] {
            let value = percentile(&times, percent).unwrap_or_default().as_secs_f64() * 1e6;
            figures.add(&format!("pending_{size}_{name}_{rank}_us"), &label(&format!("{what}, {rank}, µs")), value);
        }
    };
    add_percentiles(
        "lease",
        "a lease, one per request",
        time_leases(&mut connection, scope, plan.timed_leases, 1).await?,
    );
    add_percentiles(
        "lease_of_100",
        "a lease, 100 per request",
        time_leases(&mut connection, scope, plan.timed_leases, LEASES_PER_ROUND).await?,
    );
    let counts = check::counts(&mut connection, scope).await?;
    let created = scope.created_count.load(Ordering::Relaxed);
    if (counts.queued, counts.succeeded) != (created - counts.succeeded, plan.timed_leases * 2) {
        return Err(CommandError::failed(format!("{created} tasks were created, but the counters are {counts:?}")));
    }
    Ok(())
}

/// Takes `leases` leases, `at_once` in one request, and reports their ends. Returns for each request its time divided by
/// `at_once`.
async fn time_leases(
    connection: &mut LoadConnection,
    scope: &RunScope,
    leases: u64,
    at_once: u64,
) -> Result<Vec<Duration>, CommandError> {
    let mut times = Vec::new();
    let body = take_request_body(&scope.kind, usize::try_from(at_once).unwrap_or(1), 10);
    for first in (0..leases).step_by(100) {
        scope.create_batch(connection, first, LEASES_PER_ROUND).await?;
        let mut round_leases = Vec::new();
        while (round_leases.len() as u64) < LEASES_PER_ROUND {
            let started_at = Instant::now();
            let response = connection.post("/v1/leases", body.clone(), StatusCode::OK).await?;
            let LeasesResponse { leases } = parse_json(&response.body)?;
            if leases.len() as u64 != at_once {
                return Err(CommandError::failed(format!("requested {at_once} leases, received {}", leases.len())));
            }
            times.push(started_at.elapsed().div_f64(ratio(at_once, 1.0)));
            round_leases.extend(leases.iter().map(|lease| lease.secret.to_owned()));
        }
        report_ends(connection, &round_leases, "succeeded").await?;
    }
    Ok(times)
}
