//! The time from a cancel until a worker whose heartbeat waits has received it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;

use super::Plan;
use super::figures::Figures;
use super::load::{Scope, parse};
use super::phases::jittered;
use super::wire::Wire;
use super::worker::{Leases, report_ends, take_body};
use crate::cli::failure::Failure;

/// Leases that the worker holds at a time.
const HELD: u64 = 100;
/// The average time from one cancel to the next: enough for the next heartbeat to wait at the server.
const GAP: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct HeartbeatReply<'a> {
    #[serde(borrow)]
    directives: Vec<Directive<'a>>,
}

#[derive(Deserialize)]
struct Directive<'a> {
    lease: &'a str,
    directive: &'a str,
}

/// Cancels running tasks one after the other while the heartbeat of their worker waits; how many.
pub(super) async fn run(scope: &Scope, plan: &Plan, figures: &mut Figures) -> Result<u64, Failure> {
    let scope = scope.of_kind("cancel");
    let (mut requests, mut heartbeats) = (Wire::open(&scope.server).await?, Wire::open(&scope.server).await?);
    let (mut received, mut answered) = (Vec::new(), Vec::new());
    for first in (0..plan.cancels).step_by(100) {
        let tasks = (plan.cancels - first).min(HELD);
        scope.create_batch(&mut requests, first, tasks).await?;
        let mut held = hold(&mut requests, &scope, tasks).await?;
        let leases: Vec<String> = held.values().cloned().collect();
        while let Some(task) = held.keys().next().cloned() {
            let Some(lease) = held.remove(&task) else { break };
            let body = heartbeat(held.values().chain([&lease]));
            let wait = async {
                let answer = heartbeats.post("/v1/leases/heartbeat", body, StatusCode::OK).await?;
                let arrived = Instant::now();
                let HeartbeatReply { directives } = parse(&answer.body)?;
                let is_ours = |directive: &Directive| directive.lease == lease && directive.directive == "cancel";
                if directives.len() == 1 && directives.iter().all(is_ours) {
                    return Ok(arrived);
                }
                let text = String::from_utf8_lossy(&answer.body);
                Err(Failure::failed(format!("a heartbeat was told something else than the cancel: {text:.500}")))
            };
            let cancel = async {
                tokio::time::sleep(jittered(GAP)).await;
                let sent = Instant::now();
                requests.post(&format!("/v1/tasks/{task}/cancel"), Bytes::new(), StatusCode::ACCEPTED).await?;
                Ok((sent, sent.elapsed()))
            };
            let (arrived, (sent, took)) = tokio::try_join!(wait, cancel)?;
            received.push(arrived.saturating_duration_since(sent));
            answered.push(took);
        }
        report_ends(&mut requests, &leases, "cancelled").await?;
    }
    figures.keep_waits("cancel_to_worker", "cancel to a waiting worker", received);
    figures.keep_waits("cancel", "cancel to its answer", answered);
    Ok(plan.cancels)
}

/// Takes a lease of each task; the leases by task.
async fn hold(wire: &mut Wire, scope: &Scope, tasks: u64) -> Result<HashMap<String, String>, Failure> {
    let mut held = HashMap::new();
    while (held.len() as u64) < tasks {
        let answer = wire.post("/v1/leases", take_body(&scope.kind, 100, 10), StatusCode::OK).await?;
        let Leases { leases } = parse(&answer.body)?;
        if leases.is_empty() {
            return Err(Failure::failed(format!("{tasks} tasks were there, and only {} came", held.len())));
        }
        held.extend(leases.iter().map(|lease| (lease.task_id.to_owned(), lease.text.to_owned())));
    }
    Ok(held)
}

fn heartbeat<'a>(leases: impl Iterator<Item = &'a String>) -> Bytes {
    let leases: Vec<String> = leases.map(|lease| format!("{{\"lease\":\"{lease}\"}}")).collect();
    format!("{{\"worker\":\"bench\",\"leases\":[{}],\"wait_s\":10}}", leases.join(",")).into()
}
