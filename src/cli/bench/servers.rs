//! Whole lives of tasks on several servers over one cluster, beside the embedded log in the same run.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::check::{counts, head, verify};
use super::figures::Figures;
use super::load::{Order, Scope, produce};
use super::phases::{ALL_MAX, PRODUCERS, per};
use super::place::{LogPlace, with_prefix};
use super::server::{Server, cpu};
use super::wire::Wire;
use super::worker::Worker;
use super::{Plan, scope};
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::settings::StoreKind;

/// How long a server may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// The pause before a server is asked again.
const AGAIN: Duration = Duration::from_millis(20);

/// The live phase on the embedded log, on one server over the cluster, and on two. Returns the number of tasks that were
/// checked.
pub(super) async fn compare(url: &str, plan: &Plan, figures: &mut Figures) -> Result<u64, Failure> {
    let embedded = LogPlace::Own(StoreKind::Sqlite);
    let mut checked = one(&embedded, 1, ("embedded", "embedded log"), plan, figures).await?;
    for (count, name, label) in [(1, "one_server", "cluster, 1 server"), (2, "two_servers", "cluster, 2 servers")] {
        let prefix = format!("bench{}", &Uuid::new_v4().simple().to_string()[..8]);
        out::note(&format!("{label}: its streams stay in the database, with the prefix {prefix}"));
        let place = LogPlace::Shared(with_prefix(url, &prefix));
        checked += one(&place, count, (name, label), plan, figures).await?;
    }
    Ok(checked)
}

/// Starts the servers, measures, checks the log and stops them.
async fn one(
    place: &LogPlace,
    count: usize,
    (name, label): (&str, &str),
    plan: &Plan,
    figures: &mut Figures,
) -> Result<u64, Failure> {
    let mut servers = Vec::with_capacity(count);
    for _ in 0..count {
        servers.push(Server::start(place).await?);
    }
    for server in &servers {
        wait_until_ready(server).await?;
    }
    let checked = match (measure(&servers, (name, label), plan, figures).await, servers.first_mut()) {
        (Ok(checked), _) => checked,
        (Err(failure), Some(first)) => return Err(first.explain(failure).await),
        (Err(failure), None) => return Err(failure),
    };
    for server in servers {
        server.stop().await;
    }
    Ok(checked)
}

async fn wait_until_ready(server: &Server) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        match Wire::open(&server.address).await?.get("/readyz").await {
            Ok(_) => return Ok(()),
            Err(failure) if begun.elapsed() > READY => return Err(failure),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn measure(
    servers: &[Server],
    (name, label): (&str, &str),
    plan: &Plan,
    figures: &mut Figures,
) -> Result<u64, Failure> {
    let Some((first, others)) = servers.split_first() else { return Ok(0) };
    let scope = Scope { others: others.iter().map(|server| server.address.clone()).collect(), ..scope(first) };
    let after = head(&mut Wire::open(&scope.server).await?).await?;
    let spent = cpu_time(servers);
    let mut worker = Worker::start(&scope, plan.worker).await?;
    let order = Order { connections: PRODUCERS, calls: ALL_MAX, batch: None, at_most: plan.live_for };
    let produced = produce(&scope, order).await?;
    let since = Instant::now();
    let made = scope.created.load(Ordering::Relaxed);
    worker.until_ended(made).await?;
    let took = produced.took + since.elapsed();
    figures.keep(
        &format!("live_{name}_per_s"),
        &format!("live, {label}, tasks/s"),
        per(produced.tasks, took.as_secs_f64()),
    );
    let spent = cpu_time(servers).saturating_sub(spent).as_secs_f64() * 1e6;
    figures.keep(&format!("live_{name}_server_cpu_us"), "  servers' CPU per task, µs", spent / per(made, 1.0));
    for server in servers {
        let mut wire = Wire::open(&server.address).await?;
        let begun = Instant::now();
        // What another server wrote may arrive here a moment later.
        while counts(&mut wire, &scope).await?.open() > 0 && begun.elapsed() < READY {
            tokio::time::sleep(AGAIN).await;
        }
    }
    verify(&scope, after, true, 0).await
}

/// CPU time of all servers so far.
fn cpu_time(servers: &[Server]) -> Duration {
    servers.iter().filter_map(Server::pid).filter_map(cpu).sum()
}
