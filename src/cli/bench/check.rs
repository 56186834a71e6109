//! The check at the end of a run: the log has every acknowledged task, and each ended once.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use serde::Deserialize;

use super::load::{Scope, parse};
use super::wire::Wire;
use crate::cli::failure::Failure;

/// The number of tasks in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Counts {
    #[serde(default)]
    pub(super) scheduled: u64,
    #[serde(default)]
    pub(super) queued: u64,
    #[serde(default)]
    pub(super) running: u64,
    #[serde(default)]
    pub(super) cancelling: u64,
    #[serde(default)]
    pub(super) retrying: u64,
    #[serde(default)]
    pub(super) succeeded: u64,
    #[serde(default)]
    pub(super) failed: u64,
    #[serde(default)]
    pub(super) cancelled: u64,
}

impl Counts {
    /// Those that have not ended.
    pub(super) const fn open(&self) -> u64 {
        self.scheduled + self.queued + self.running + self.cancelling + self.retrying
    }
}

#[derive(Deserialize)]
struct Counters {
    counts: Counts,
}

#[derive(Deserialize)]
struct Head {
    position: u64,
}

/// The counts of the scope's owner.
pub(super) async fn counts(wire: &mut Wire, scope: &Scope) -> Result<Counts, Failure> {
    let path = match &scope.owner {
        Some(owner) => format!("/v1/counters?owner={owner}"),
        None => "/v1/counters".to_owned(),
    };
    let answer = wire.get(&path).await?;
    Ok(parse::<Counters>(&answer.body)?.counts)
}

/// Where the log ends.
pub(super) async fn head(wire: &mut Wire) -> Result<u64, Failure> {
    let answer = wire.get("/v1/log/head").await?;
    Ok(parse::<Head>(&answer.body)?.position)
}

/// The events of one task, counted.
#[derive(Clone, Copy, Debug, Default)]
struct EventCounts {
    starts: u32,
    /// Attempts that ended, with any outcome.
    ends: u32,
    completed: u32,
    succeeded: u32,
    cancelled: u32,
}

#[derive(Deserialize)]
struct Event<'a> {
    stream: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    kind: Option<&'a str>,
    outcome: Option<&'a str>,
    attempt: Option<u32>,
}

/// The events of all tasks of a scope, counted.
#[derive(Debug, Default)]
struct LogSummary {
    tasks: HashMap<String, EventCounts>,
    /// Why a line of the log could not be read.
    fault: Option<String>,
}

impl LogSummary {
    fn count(&mut self, line: &[u8], scope: &Scope) {
        let event: Event = match serde_json::from_slice(line) {
            Ok(event) => event,
            Err(error) => return self.fault = Some(error.to_string()),
        };
        if event.kind == "Created" {
            if event.data.kind.is_some_and(|kind| kind.starts_with(&scope.kind)) {
                self.tasks.insert(event.stream.to_owned(), EventCounts::default());
            }
            return;
        }
        let Some(counts) = self.tasks.get_mut(event.stream) else { return };
        match event.kind {
            "Started" => counts.starts += 1,
            "AttemptFailed" | "Released" => counts.ends += 1,
            "Completed" => {
                counts.completed += 1;
                counts.ends += u32::from(event.data.attempt.is_some());
                counts.succeeded += u32::from(event.data.outcome == Some("succeeded"));
                counts.cancelled += u32::from(event.data.outcome == Some("cancelled"));
            }
            _ => {}
        }
    }
}

/// Reads the counters, and the log after the position `after`, and fails unless they show what was acknowledged: every task
/// was created; `cancelled` of them were cancelled and, if they were `drained`, all others succeeded; each by one attempt
/// that started once and ended once. Returns the number of tasks.
pub(super) async fn verify(scope: &Scope, after: u64, drained: bool, cancelled: u64) -> Result<u64, Failure> {
    let mut wire = Wire::open(&scope.server).await?;
    let created = scope.created.load(Ordering::Relaxed);
    let counts = counts(&mut wire, scope).await?;
    let ended = if drained { created } else { cancelled };
    let all = Counts { queued: created - ended, succeeded: ended - cancelled, cancelled, ..Counts::default() };
    if counts != all {
        return Err(Failure::failed(format!("acknowledged: {all:?}, but the counters say {counts:?}")));
    }
    let (mut summary, mut rest) = (LogSummary::default(), Vec::new());
    let path = format!("/v1/log?after={after}");
    let read = wire.get_pieces(&path, |piece| {
        let mut piece = piece;
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            if rest.is_empty() {
                summary.count(&piece[..end], scope);
            } else {
                rest.extend_from_slice(&piece[..end]);
                summary.count(&rest, scope);
                rest.clear();
            }
            piece = &piece[end + 1..];
        }
        rest.extend_from_slice(piece);
    });
    read.await?;
    if let Some(fault) = summary.fault {
        return Err(Failure::failed(format!("the log holds a line that can't be read: {fault}")));
    }
    let tasks = summary.tasks.values();
    let once = tasks.clone().filter(|counts| counts.starts == 1 && counts.ends == 1 && counts.completed == 1);
    let succeeded = once.clone().filter(|counts| counts.succeeded == 1).count() as u64;
    let stopped = once.filter(|counts| counts.cancelled == 1).count() as u64;
    let untouched = tasks.filter(|counts| counts.starts == 0 && counts.completed == 0).count() as u64;
    let logged = summary.tasks.len() as u64;
    if (logged, succeeded, stopped, untouched) != (created, all.succeeded, cancelled, all.queued) {
        return Err(Failure::failed(format!(
            "acknowledged: {created} tasks, {} to succeed, {cancelled} to be cancelled; the log says {logged} created, \
             {succeeded} succeeded and {stopped} cancelled by one attempt each, {untouched} not begun",
            all.succeeded
        )));
    }
    Ok(created)
}
