//! Heartbeats: one that waits for directives and keeps all leases alive, and short ones that carry progress.

use std::collections::HashSet;
use std::convert::Infallible;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Link;
use super::http::{Backoff, Trouble};
use super::wire::{self, Beat, BeatOf};

/// How long a heartbeat waits for a directive.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(30);
/// A heartbeat is sent anew at most so often: leases that come in a flood are named together.
const PACE: Duration = Duration::from_millis(25);
/// The progress of an attempt is told at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How long an answer may take beyond the wait.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often deadlines are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The one heartbeat that waits. Leases that come meanwhile are named by the next: the former is dropped for it, and what
/// it would have said is said again, since it was not seen.
pub(super) async fn keep(link: &Link) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        let (beats, left) = link.leases.beats();
        if beats.is_empty() {
            link.leases.changed.notified().await;
            continue;
        }
        let again = Instant::now() + PACE;
        // A server that says nothing at all must be found out while there is time for another try.
        let wait = (left / 3).clamp(WAIT_MIN, WAIT_MAX);
        let named: HashSet<String> = beats.iter().map(|beat| beat.lease.clone()).collect();
        tokio::select! {
            answer = beat(link, &beats, wait) => match answer {
                Ok(()) => backoff.reset(),
                Err(Trouble::Later { after, .. }) => backoff.pause(after).await,
                Err(Trouble::Refused { status, problem }) => {
                    tracing::warn!(status, code = problem.code, detail = problem.detail, "a heartbeat was refused");
                    backoff.pause(None).await;
                }
            },
            () = outgrown(link, &named) => {}
        }
        sleep_until(again).await;
    }
}

async fn outgrown(link: &Link, named: &HashSet<String>) {
    loop {
        link.leases.changed.notified().await;
        sleep(PACE).await;
        if link.leases.outgrew(named) {
            return;
        }
    }
}

/// One heartbeat, and what its answer leads to.
async fn beat(link: &Link, beats: &[BeatOf], wait: Duration) -> Result<(), Trouble> {
    let body = Beat { worker: &link.worker, leases: beats, wait_s: wait.as_secs_f64() };
    let reply = link.http.post(wire::BEAT, &body, wait + ANSWER_WITHIN).await?;
    let named: Vec<String> = beats.iter().map(|beat| beat.lease.clone()).collect();
    link.leases.hear(&named, reply.read()?, &reply);
    Ok(())
}

/// Tells remarks; they are to be told again where nobody heard them.
pub(super) async fn tell(link: &Link, remarks: &[BeatOf]) -> Result<(), Trouble> {
    if remarks.is_empty() {
        return Ok(());
    }
    let told = beat(link, remarks, Duration::ZERO).await;
    if let Err(Trouble::Later { .. }) = told {
        link.leases.untold(remarks);
    }
    told
}

/// Passes on what the attempts say of their progress.
pub(super) async fn progress(link: &Link) -> Infallible {
    let mut backoff = Backoff::new();
    loop {
        link.leases.talks.notified().await;
        let told = {
            // An older remark must not arrive after the last one of an attempt that ends.
            let _speaking = link.speaking.lock().await;
            tell(link, &link.leases.remarks()).await
        };
        match told {
            Ok(()) => backoff.reset(),
            Err(Trouble::Later { after, .. }) => backoff.pause(after).await,
            Err(Trouble::Refused { status, problem }) => {
                tracing::warn!(status, code = problem.code, detail = problem.detail, "progress was refused");
            }
        }
        sleep(PROGRESS_EVERY).await;
    }
}

/// Gives up what could not be kept alive.
pub(super) async fn expire(link: &Link) -> Infallible {
    loop {
        sleep(LOOK_EVERY).await;
        link.leases.lose_overdue();
    }
}
