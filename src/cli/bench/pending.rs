//! The time of a lease while many tasks are queued, and the memory and disk that they take.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::figures::{Figures, percentile};
use super::load::{Order, Scope, parse, produce};
use super::phases::per;
use super::server::Server;
use super::wire::Wire;
use super::worker::{Leases, report_ends, take_body};
use super::{Plan, check};
use crate::cli::failure::Failure;

/// Leases of one round. As many tasks are created before it, so that the same number is always queued.
const ROUND: u64 = 100;

/// Creates the backlog, then takes leases one by one and in hundreds. Each round's tasks are created before its leases are
/// taken.
pub(super) async fn run(
    server: &Server,
    scope: &Scope,
    size: u64,
    plan: &Plan,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let idle = server.usage();
    let calls = size.div_ceil(1000);
    let order = Order { connections: 2, calls, batch: Some(1000), at_most: Duration::from_hours(1) };
    let filled = produce(scope, order).await?;
    let shown = |what: &str| format!("{size} pending: {what}");
    figures.keep(&format!("pending_{size}_fill_per_s"), &shown("created, tasks/s"), filled.rate());
    if let (Some(idle), Some(now)) = (idle, server.usage()) {
        let tasks = per(scope.created.load(Ordering::Relaxed), 1.0);
        let each = |now: u64, idle: u64| per(now.saturating_sub(idle), tasks);
        let mut keep =
            |name: &str, what: &str, value| figures.keep(&format!("pending_{size}_{name}"), &shown(what), value);
        keep("memory_bytes_per_task", "memory per task, bytes", each(now.pss, idle.pss));
        keep("disk_bytes_per_task", "disk per task, bytes", each(now.disk, idle.disk));
        keep("rss_mb", "RSS, MB", per(now.rss, 1e6));
    }
    let mut wire = Wire::open(&scope.server).await?;
    let mut measure = |name: &str, what: &str, mut each: Vec<Duration>| {
        each.sort_unstable();
        for (rank, percent) in [("p50", 50), ("p99", 99)] {
            let value = percentile(&each, percent).unwrap_or_default().as_secs_f64() * 1e6;
            figures.keep(&format!("pending_{size}_{name}_{rank}_us"), &shown(&format!("{what}, {rank}, µs")), value);
        }
    };
    measure("lease", "a lease, one by one", rounds(&mut wire, scope, plan.leases, 1).await?);
    measure("lease_of_100", "a lease, in hundreds", rounds(&mut wire, scope, plan.leases, ROUND).await?);
    let counts = check::counts(&mut wire, scope).await?;
    let created = scope.created.load(Ordering::Relaxed);
    if (counts.queued, counts.succeeded) != (created - counts.succeeded, plan.leases * 2) {
        return Err(Failure::failed(format!("{created} tasks were created, and the counters say {counts:?}")));
    }
    Ok(())
}

/// The time of each lease, when `at_once` are requested together.
async fn rounds(wire: &mut Wire, scope: &Scope, leases: u64, at_once: u64) -> Result<Vec<Duration>, Failure> {
    let mut each = Vec::new();
    let body = take_body(&scope.kind, usize::try_from(at_once).unwrap_or(1), 10);
    for first in (0..leases).step_by(100) {
        scope.create_batch(wire, first, ROUND).await?;
        let mut held = Vec::new();
        while (held.len() as u64) < ROUND {
            let began = Instant::now();
            let answer = wire.post("/v1/leases", body.clone(), StatusCode::OK).await?;
            let Leases { leases } = parse(&answer.body)?;
            if leases.len() as u64 != at_once {
                return Err(Failure::failed(format!("asked for {at_once} leases, got {}", leases.len())));
            }
            each.push(began.elapsed().div_f64(per(at_once, 1.0)));
            held.extend(leases.iter().map(|lease| lease.text.to_owned()));
        }
        report_ends(wire, &held, "succeeded").await?;
    }
    Ok(each)
}
