//! Heartbeats: a long one that waits for directives and keeps all leases alive, and short ones that carry progress.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::time::{sleep, sleep_until};

use super::http::{ANSWER_WITHIN, RETRIES, RequestError, retry_pause};
use super::link::Link;
use super::wire::{self, HeartbeatRequest, LeaseHeartbeat};
use crate::task::backoff::BackOff;

/// The longest wait for a directive.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A third of the time that is left counts as no less than this.
const THIRD_MIN: Duration = Duration::from_millis(50);
/// The time between two heartbeats is at least this: leases that arrive in quick succession are named together.
const PACE: Duration = Duration::from_millis(25);
/// The time between two heartbeats with progress is at least this.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// Keeps one heartbeat waiting at the server for as long as leases are held. When a lease is added meanwhile, the heartbeat
/// is dropped for one that names it too; a directive in the dropped answer is repeated, since it was not seen.
///
/// Of the time that is left to the first lease, a third is spent waiting for directives and at most a third waiting for the
/// answer beyond that. So a heartbeat that is lost leaves a third for another, which waits for no directives.
pub(super) async fn keep_leases(link: &Link) -> Infallible {
    let (mut retries, mut is_retry) = (RETRIES, false);
    loop {
        let (heartbeats, left) = link.leases.heartbeats();
        if heartbeats.is_empty() {
            link.leases.added.notified().await;
            continue;
        }
        let next = tokio::time::Instant::now() + PACE;
        let third = (left / 3).max(THIRD_MIN);
        let wait = if is_retry { Duration::ZERO } else { third.min(WAIT_MAX) };
        let named: HashSet<String> = heartbeats.iter().map(|heartbeat| heartbeat.lease.clone()).collect();
        tokio::select! {
            answer = send(link, &heartbeats, wait, third.min(ANSWER_WITHIN)) => {
                is_retry = answer.is_err();
                match answer {
                    Ok(()) => retries.reset(),
                    Err(error) => sleep(pause_after(error, &mut retries).min(third / 2)).await,
                }
            }
            () = lease_is_added(link, &named) => {}
        }
        sleep_until(next).await;
    }
}

fn pause_after(error: RequestError, retries: &mut BackOff) -> Duration {
    match error {
        RequestError::Retryable { after, .. } => retry_pause(retries, after),
        RequestError::Refused { status, problem } => {
            tracing::warn!(status, code = problem.code, detail = problem.detail, "a heartbeat was refused");
            retry_pause(retries, None)
        }
    }
}

/// Waits until a lease is held that is not among `named`.
async fn lease_is_added(link: &Link, named: &HashSet<String>) {
    loop {
        link.leases.added.notified().await;
        sleep(PACE).await;
        if link.leases.has_other_than(named) {
            return;
        }
    }
}

/// Sends one heartbeat that may wait for `wait`, and applies its answer, which may take `allowance` longer.
async fn send(
    link: &Link,
    heartbeats: &[LeaseHeartbeat],
    wait: Duration,
    allowance: Duration,
) -> Result<(), RequestError> {
    let body = HeartbeatRequest { worker: &link.worker, leases: heartbeats, wait_s: wait.as_secs_f64() };
    let reply = link.http.post(wire::HEARTBEAT, &body, wait + allowance).await?;
    let named: Vec<String> = heartbeats.iter().map(|heartbeat| heartbeat.lease.clone()).collect();
    link.leases.apply(&named, reply.read()?, reply.sent);
    Ok(())
}

/// Sends progress. After a failure that may be retried, the progress waits to be sent again.
pub(super) async fn send_progress(link: &Link, progress: &[LeaseHeartbeat]) -> Result<(), RequestError> {
    if progress.is_empty() {
        return Ok(());
    }
    let sent = send(link, progress, Duration::ZERO, ANSWER_WITHIN).await;
    if let Err(RequestError::Retryable { .. }) = sent {
        link.leases.restore_progress(progress);
    }
    sent
}

/// Sends the progress of running attempts as it comes.
pub(super) async fn keep_sending_progress(link: &Link) -> Infallible {
    let mut retries = RETRIES;
    loop {
        link.leases.has_progress.notified().await;
        let sent = {
            let _sending = link.sending_progress.lock().await;
            send_progress(link, &link.leases.take_progress()).await
        };
        match sent {
            Ok(()) => retries.reset(),
            Err(RequestError::Retryable { after, .. }) => sleep(retry_pause(&mut retries, after)).await,
            Err(RequestError::Refused { status, problem }) => {
                tracing::warn!(status, code = problem.code, detail = problem.detail, "progress was refused");
            }
        }
        sleep(PROGRESS_EVERY).await;
    }
}

/// Gives up each attempt whose lease ends, at its deadline.
pub(super) async fn expire_leases(link: &Link) -> Infallible {
    loop {
        let deadline = async {
            match link.leases.next_deadline() {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = deadline => link.leases.lose_overdue(Instant::now()),
            () = link.leases.added_deadline.notified() => {}
        }
    }
}
