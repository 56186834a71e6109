//! The phase cancel: the time from the request to cancel a task until its worker receives the cancel, while a heartbeat
//! of the worker waits at the server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use hyper::body::Bytes;
use serde::Deserialize;

use super::BenchPlan;
use super::connection::LoadConnection;
use super::figures::Figures;
use super::load::{RunScope, parse_json};
use super::phases::jittered;
use super::worker::{LeasesResponse, report_ends, take_request_body};
use crate::cli::command_error::CommandError;

/// The most leases that the worker holds at the same time.
const LEASES_AT_ONCE: u64 = 100;
/// The average pause before a cancel. It is long enough that the heartbeat waits at the server when the cancel arrives.
const CANCEL_GAP: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct HeartbeatResponse<'a> {
    #[serde(borrow)]
    directives: Vec<Directive<'a>>,
}

#[derive(Deserialize)]
struct Directive<'a> {
    lease: &'a str,
    directive: &'a str,
}

/// Cancels running tasks one after the other while the heartbeat of their worker waits. Returns the number of cancelled
/// tasks.
pub(super) async fn run(scope: &RunScope, plan: &BenchPlan, figures: &mut Figures) -> Result<u64, CommandError> {
    let scope = scope.with_kind_suffix("cancel");
    let (mut requests, mut heartbeats) =
        (LoadConnection::open(&scope.server).await?, LoadConnection::open(&scope.server).await?);
    let (mut worker_latencies, mut response_times) = (Vec::new(), Vec::new());
    for first in (0..plan.cancels).step_by(100) {
        let tasks = (plan.cancels - first).min(LEASES_AT_ONCE);
        scope.create_batch(&mut requests, first, tasks).await?;
        let mut held = take_leases(&mut requests, &scope, tasks).await?;
        let leases: Vec<String> = held.values().cloned().collect();
        while let Some(task) = held.keys().next().cloned() {
            let Some(lease) = held.remove(&task) else { break };
            let body = heartbeat_body(held.values().chain([&lease]));
            let wait = async {
                let response = heartbeats.post("/v1/leases/heartbeat", body, StatusCode::OK).await?;
                let arrived = Instant::now();
                let HeartbeatResponse { directives } = parse_json(&response.body)?;
                let is_expected = |directive: &Directive| directive.lease == lease && directive.directive == "cancel";
                if directives.len() == 1 && directives.iter().all(is_expected) {
                    return Ok(arrived);
                }
                let text = String::from_utf8_lossy(&response.body);
                Err(CommandError::failed(format!("unexpected directive in the response to a heartbeat: {text:.500}")))
            };
            let cancel = async {
                tokio::time::sleep(jittered(CANCEL_GAP)).await;
                let sent = Instant::now();
                requests.post(&format!("/v1/tasks/{task}/cancel"), Bytes::new(), StatusCode::ACCEPTED).await?;
                Ok((sent, sent.elapsed()))
            };
            let (arrived, (sent, took)) = tokio::try_join!(wait, cancel)?;
            worker_latencies.push(arrived.saturating_duration_since(sent));
            response_times.push(took);
        }
        report_ends(&mut requests, &leases, "cancelled").await?;
    }
    figures.add_durations("cancel_to_worker", "cancel to the worker", worker_latencies);
    figures.add_durations("cancel", "cancel to its response", response_times);
    Ok(plan.cancels)
}

/// Takes a lease for each task. Returns the leases by task id.
async fn take_leases(
    connection: &mut LoadConnection,
    scope: &RunScope,
    tasks: u64,
) -> Result<HashMap<String, String>, CommandError> {
    let mut held = HashMap::new();
    while (held.len() as u64) < tasks {
        let response = connection.post("/v1/leases", take_request_body(&scope.kind, 100, 10), StatusCode::OK).await?;
        let LeasesResponse { leases } = parse_json(&response.body)?;
        if leases.is_empty() {
            return Err(CommandError::failed(format!("only {} of {tasks} leases were granted", held.len())));
        }
        held.extend(leases.iter().map(|lease| (lease.task_id.to_owned(), lease.secret.to_owned())));
    }
    Ok(held)
}

/// The body of a heartbeat that waits at most 10 s for directives.
fn heartbeat_body<'a>(leases: impl Iterator<Item = &'a String>) -> Bytes {
    let leases: Vec<String> = leases.map(|lease| format!("{{\"lease\":\"{lease}\"}}")).collect();
    format!("{{\"worker\":\"bench\",\"leases\":[{}],\"wait_s\":10}}", leases.join(",")).into()
}
