//! Heartbeats: a long one, which waits for directives and renews all leases, and short ones, which send progress.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::http::{RESPONSE_TIMEOUT, RETRIES, RequestError, retry_pause};
use super::protocol::{self, HeartbeatItem, HeartbeatRequest};
use super::state::WorkerState;
use crate::task::backoff::BackOff;

/// The longest wait for a directive.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// The smallest budget for one wait; see [`renew_leases`].
const WAIT_BUDGET_MIN: Duration = Duration::from_millis(50);
/// The least time between the starts of two heartbeats. Leases that arrive within this time are sent in one heartbeat.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(25);
/// The least time between two heartbeats with progress.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Renews all leases: while the worker holds leases, one heartbeat always waits at the server. When a lease is added,
/// the current heartbeat is dropped and replaced by one that also names the new lease. If the response to the dropped
/// heartbeat had a directive, the server sends it again, because the next heartbeat doesn't name it as seen.
///
/// The wait budget is one third of the time until the first lease ends. One third is for the wait at the server for
/// directives, one third for the response. If the heartbeat or its response is lost, the last third is left for another
/// heartbeat, which doesn't wait for directives.
pub(super) async fn renew_leases(state: &WorkerState) -> Infallible {
    let (mut retries, mut is_retry) = (RETRIES, false);
    loop {
        let (items, time_left) = state.leases.heartbeat_items();
        if items.is_empty() {
            state.leases.lease_added.notified().await;
            continue;
        }
        let next_start = tokio::time::Instant::now() + HEARTBEAT_INTERVAL_MIN;
        let wait_budget = (time_left / 3).max(WAIT_BUDGET_MIN);
        let wait = if is_retry { Duration::ZERO } else { wait_budget.min(WAIT_MAX) };
        let named: HashSet<String> = items.iter().map(|item| item.lease.clone()).collect();
        tokio::select! {
            sent = send_heartbeat(state, &items, wait, wait_budget.min(RESPONSE_TIMEOUT)) => {
                is_retry = sent.is_err();
                match sent {
                    Ok(()) => retries.reset(),
                    Err(error) => sleep(pause_after(error, &mut retries).min(wait_budget / 2)).await,
                }
            }
            () = wait_for_unnamed_lease(state, &named) => {}
        }
        sleep_until(next_start).await;
    }
}

/// The pause after a heartbeat that failed.
fn pause_after(error: RequestError, retries: &mut BackOff) -> Duration {
    match error {
        RequestError::Retryable { after, .. } => retry_pause(retries, after),
        RequestError::Refused { status, problem } => {
            tracing::warn!(status, code = problem.code, detail = problem.detail, "a heartbeat was refused");
            retry_pause(retries, None)
        }
    }
}

/// Waits until the worker holds a lease that is not among `named`.
async fn wait_for_unnamed_lease(state: &WorkerState, named: &HashSet<String>) {
    loop {
        state.leases.lease_added.notified().await;
        sleep(HEARTBEAT_INTERVAL_MIN).await;
        if state.leases.has_lease_not_in(named) {
            return;
        }
    }
}

/// Sends one heartbeat and applies its response. The server may wait for `wait` before it responds, and the response
/// may take `allowance` longer.
async fn send_heartbeat(
    state: &WorkerState,
    items: &[HeartbeatItem],
    wait: Duration,
    allowance: Duration,
) -> Result<(), RequestError> {
    let body = HeartbeatRequest { worker: &state.worker, leases: items, wait_s: wait.as_secs_f64() };
    let response = state.http.post(protocol::HEARTBEAT_PATH, &body, wait + allowance).await?;
    let named: Vec<String> = items.iter().map(|item| item.lease.clone()).collect();
    state.leases.apply(&named, response.read()?, response.sent);
    Ok(())
}

/// Sends progress. If it fails and may be retried, the progress is stored again, to be sent later.
pub(super) async fn send_progress(state: &WorkerState, progress: &[HeartbeatItem]) -> Result<(), RequestError> {
    if progress.is_empty() {
        return Ok(());
    }
    let sent = send_heartbeat(state, progress, Duration::ZERO, RESPONSE_TIMEOUT).await;
    if let Err(RequestError::Retryable { .. }) = sent {
        state.leases.restore_progress(progress);
    }
    sent
}

/// Sends new progress of running attempts, for as long as the worker runs.
pub(super) async fn keep_sending_progress(state: &WorkerState) -> Infallible {
    let mut retries = RETRIES;
    loop {
        state.leases.has_progress.notified().await;
        let sent = {
            let _guard = state.progress_lock.lock().await;
            send_progress(state, &state.leases.take_progress()).await
        };
        match sent {
            Ok(()) => retries.reset(),
            Err(RequestError::Retryable { after, .. }) => sleep(retry_pause(&mut retries, after)).await,
            Err(RequestError::Refused { status, problem }) => {
                tracing::warn!(status, code = problem.code, detail = problem.detail, "progress was refused");
            }
        }
        sleep(PROGRESS_INTERVAL_MIN).await;
    }
}

/// Stops each attempt whose lease was not renewed, at the lease's deadline.
pub(super) async fn watch_deadlines(state: &WorkerState) -> Infallible {
    loop {
        let deadline = async {
            match state.leases.next_deadline() {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = deadline => state.leases.lose_overdue(Instant::now()),
            () = state.leases.deadline_added.notified() => {}
        }
    }
}
