//! The check at the end of a run: the log must contain every acknowledged task, and no task may have ended twice. If a
//! worker ran, each task must have ended.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use serde::Deserialize;

use super::connection::LoadConnection;
use super::load::{RunScope, parse_json};
use crate::cli::command_error::CommandError;

/// The number of tasks in each status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct StatusCounts {
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

impl StatusCounts {
    /// The number of tasks that have not ended.
    pub(super) const fn open(&self) -> u64 {
        self.scheduled + self.queued + self.running + self.cancelling + self.retrying
    }
}

#[derive(Deserialize)]
struct CountersResponse {
    counts: StatusCounts,
}

#[derive(Deserialize)]
struct HeadResponse {
    position: u64,
}

/// Requests the number of tasks in each status: of the scope's owner or, if it has none, of all owners.
pub(super) async fn counts(connection: &mut LoadConnection, scope: &RunScope) -> Result<StatusCounts, CommandError> {
    let path = match &scope.owner {
        Some(owner) => format!("/v1/counters?owner={owner}"),
        None => "/v1/counters".to_owned(),
    };
    let response = connection.get(&path).await?;
    Ok(parse_json::<CountersResponse>(&response.body)?.counts)
}

/// Requests the last position of the log.
pub(super) async fn head_position(connection: &mut LoadConnection) -> Result<u64, CommandError> {
    let response = connection.get("/v1/log/head").await?;
    Ok(parse_json::<HeadResponse>(&response.body)?.position)
}

/// How many events of each sort one task has.
#[derive(Clone, Copy, Debug, Default)]
struct EventCounts {
    starts: u32,
    /// Attempts that ended with any outcome.
    ends: u32,
    completed: u32,
    succeeded: u32,
    cancelled: u32,
}

#[derive(Deserialize)]
struct LogLine<'a> {
    stream: &'a str,
    #[serde(rename = "type")]
    event_type: &'a str,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    kind: Option<&'a str>,
    outcome: Option<&'a str>,
    attempt: Option<u32>,
}

/// How many events each task of a scope has.
#[derive(Debug, Default)]
struct LogSummary {
    tasks: HashMap<String, EventCounts>,
    /// Why a line of the log could not be parsed; the last such error.
    parse_error: Option<String>,
}

impl LogSummary {
    /// Counts the event on this line if it belongs to a task of the scope.
    fn count_event(&mut self, line: &[u8], scope: &RunScope) {
        let event: LogLine = match serde_json::from_slice(line) {
            Ok(event) => event,
            Err(error) => return self.parse_error = Some(error.to_string()),
        };
        if event.event_type == "Created" {
            if event.data.kind.is_some_and(|kind| kind.starts_with(&scope.kind)) {
                self.tasks.insert(event.stream.to_owned(), EventCounts::default());
            }
            return;
        }
        let Some(counts) = self.tasks.get_mut(event.stream) else { return };
        match event.event_type {
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

/// Compares the counters, and the log after the position `after`, with what the server acknowledged. Fails unless they show
/// that:
///
/// - every acknowledged task was created;
/// - `cancelled` tasks were cancelled and, if `drained`, all others succeeded;
/// - each of these tasks had one attempt, which started once and ended once.
///
/// Returns the number of acknowledged tasks.
pub(super) async fn verify(scope: &RunScope, after: u64, drained: bool, cancelled: u64) -> Result<u64, CommandError> {
    let mut connection = LoadConnection::open(&scope.server).await?;
    let created = scope.created_count.load(Ordering::Relaxed);
    let counts = counts(&mut connection, scope).await?;
    let ended = if drained { created } else { cancelled };
    let expected =
        StatusCounts { queued: created - ended, succeeded: ended - cancelled, cancelled, ..StatusCounts::default() };
    if counts != expected {
        return Err(CommandError::failed(format!("acknowledged: {expected:?}, but the counters are {counts:?}")));
    }
    let (mut summary, mut partial_line) = (LogSummary::default(), Vec::new());
    let path = format!("/v1/log?after={after}");
    let read = connection.get_chunks(&path, |chunk| {
        let mut unread = chunk;
        while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
            if partial_line.is_empty() {
                summary.count_event(&unread[..end], scope);
            } else {
                partial_line.extend_from_slice(&unread[..end]);
                summary.count_event(&partial_line, scope);
                partial_line.clear();
            }
            unread = &unread[end + 1..];
        }
        partial_line.extend_from_slice(unread);
    });
    read.await?;
    if let Some(error) = summary.parse_error {
        return Err(CommandError::failed(format!("the log contains an invalid line: {error}")));
    }
    let tasks = summary.tasks.values();
    let with_one_attempt =
        tasks.clone().filter(|counts| counts.starts == 1 && counts.ends == 1 && counts.completed == 1);
    let succeeded = with_one_attempt.clone().filter(|counts| counts.succeeded == 1).count() as u64;
    let cancelled_in_log = with_one_attempt.filter(|counts| counts.cancelled == 1).count() as u64;
    let not_started = tasks.filter(|counts| counts.starts == 0 && counts.completed == 0).count() as u64;
    let logged = summary.tasks.len() as u64;
    if (logged, succeeded, cancelled_in_log, not_started) != (created, expected.succeeded, cancelled, expected.queued) {
        return Err(CommandError::failed(format!(
            "acknowledged: {created} tasks, {} to succeed, {cancelled} to be cancelled; in the log, {logged} are created, \
             {succeeded} succeeded and {cancelled_in_log} were cancelled by one attempt each, {not_started} not started",
            expected.succeeded
        )));
    }
    Ok(created)
}
