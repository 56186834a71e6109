//! From sending a cancel until a worker that waits for news has it.

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
use super::worker::{Leases, end, take_body};
use crate::cli::failure::Failure;

/// Leases that the worker holds at a time.
const HELD: u64 = 100;
/// From one cancel to the next, on average: time enough that the heartbeat waits again.
const GAP: Duration = Duration::from_millis(10);

#[derive(Deserialize)]
struct News<'a> {
    #[serde(borrow)]
    directives: Vec<Told<'a>>,
}

#[derive(Deserialize)]
struct Told<'a> {
    lease: &'a str,
    directive: &'a str,
}

/// Cancels each of so many running tasks, one after the other, while the heartbeat of their worker waits.
pub(super) async fn run(scope: &Scope, plan: &Plan, figures: &mut Figures) -> Result<u64, Failure> {
    let scope = scope.of_kind("cancel");
    let (mut asks, mut beats) = (Wire::open(&scope.place).await?, Wire::open(&scope.place).await?);
    let (mut told, mut answered) = (Vec::new(), Vec::new());
    for first in (0..plan.cancels).step_by(100) {
        let tasks = (plan.cancels - first).min(HELD);
        scope.create_batch(&mut asks, first, tasks).await?;
        let mut held = hold(&mut asks, &scope, tasks).await?;
        let leases: Vec<String> = held.values().cloned().collect();
        while let Some(task) = held.keys().next().cloned() {
            let Some(lease) = held.remove(&task) else { break };
            let body = heartbeat(held.values().chain([&lease]));
            let wait = async {
                let answer = beats.post("/v1/leases/heartbeat", body, StatusCode::OK).await?;
                let heard = Instant::now();
                let News { directives } = parse(&answer.body)?;
                let ours = |told: &Told| told.lease == lease && told.directive == "cancel";
                if directives.len() == 1 && directives.iter().all(ours) {
                    return Ok(heard);
                }
                let text = String::from_utf8_lossy(&answer.body);
                Err(Failure::failed(format!("a heartbeat was told something else than the cancel: {text:.500}")))
            };
            let ask = async {
                tokio::time::sleep(jittered(GAP)).await;
                let asked = Instant::now();
                asks.post(&format!("/v1/tasks/{task}/cancel"), Bytes::new(), StatusCode::ACCEPTED).await?;
                Ok((asked, asked.elapsed()))
            };
            let (heard, (asked, took)) = tokio::try_join!(wait, ask)?;
            told.push(heard.saturating_duration_since(asked));
            answered.push(took);
        }
        end(&mut asks, &leases, "cancelled").await?;
    }
    figures.keep_waits("cancel_to_worker", "cancel to a waiting worker", told);
    figures.keep_waits("cancel", "cancel to its answer", answered);
    Ok(plan.cancels)
}

/// Takes so many leases; by task.
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
