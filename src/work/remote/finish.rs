//! Sends the reports about attempts over HTTP. Finishes are sent in batches and repeated until the server records or finally
//! refuses them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::to_raw_value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, sleep_until};

use super::event::WorkerEvent;
use super::heartbeat::send_progress;
use super::http::{RESPONSE_TIMEOUT, RETRIES, RequestError, retry_pause};
use super::outbox::{Outbox, PendingFinish};
use super::protocol::{
    self, AcknowledgeRequest, FinishRequest, FinishRequestItem, FinishResponse, FinishResult, HeartbeatItem,
    ServerProblem,
};
use super::state::WorkerState;
use crate::task::Rejection;
use crate::task::command::{AttemptEnd, Command};
use crate::task::event::{OutputKept, Progress};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::report::{Reporter, replace_unrequested_cancel, task_error};

/// Sends the finishes that arrive in `incoming`, one request after the other, for as long as the worker runs.
pub(super) async fn send_finishes(state: &WorkerState, mut incoming: UnboundedReceiver<PendingFinish>) -> Infallible {
    let (mut outbox, mut retries) = (Outbox::new(), RETRIES);
    loop {
        wait_until_due(&mut outbox, &mut incoming).await;
        let batch = outbox.take_batch(Instant::now());
        match send_batch(state, &batch).await {
            Ok(results) => {
                retries.reset();
                outbox.grow_batches();
                handle_results(&mut outbox, batch, results);
            }
            Err(RequestError::Retryable { after, .. }) => {
                outbox.retry_batch(batch, Instant::now());
                sleep(retry_pause(&mut retries, after)).await;
            }
            Err(RequestError::Refused { status, problem }) if may_be_caused_by_one_finish(status) => {
                handle_refused_batch(&mut outbox, batch, &problem);
            }
            // No finish is the cause of the refusal. For example, a token that is refused now may be accepted later.
            Err(RequestError::Refused { status, problem }) => {
                tracing::warn!(status, code = problem.code, detail = problem.detail, "finishes were refused");
                outbox.retry_batch(batch, Instant::now());
                sleep(retry_pause(&mut retries, None)).await;
            }
        }
    }
}

/// Receives finishes until one is due.
async fn wait_until_due(outbox: &mut Outbox, incoming: &mut UnboundedReceiver<PendingFinish>) {
    loop {
        while let Ok(finish) = incoming.try_recv() {
            outbox.push(finish, Instant::now());
        }
        let next = outbox.next_deadline();
        if next.is_some_and(|next| next <= Instant::now()) {
            return;
        }
        let due = async {
            match next {
                Some(next) => sleep_until(next.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some(finish) = incoming.recv() => outbox.push(finish, Instant::now()),
            () = due => {}
        }
    }
}

/// Completes the finishes that the server has recorded or refused, and schedules the others again.
fn handle_results(outbox: &mut Outbox, batch: Vec<PendingFinish>, results: Vec<FinishResult>) {
    for (finish, result) in batch.into_iter().zip(results) {
        match result.problem {
            Some(problem) if problem.retryable == Some(true) => outbox.retry(finish, Instant::now()),
            Some(problem) => finish.complete(Err(problem)),
            None => finish.complete(Ok(())),
        }
    }
}

/// Handles a batch whose request was finally refused because of its body. A single finish is refused. Several finishes
/// are sent again in smaller batches, to find the one that causes the refusal.
fn handle_refused_batch(outbox: &mut Outbox, mut batch: Vec<PendingFinish>, problem: &ServerProblem) {
    match batch.pop() {
        Some(finish) if batch.is_empty() => finish.complete(Err(problem.clone())),
        Some(finish) => {
            batch.push(finish);
            outbox.split_batch(batch, Instant::now());
        }
        None => {}
    }
}

/// Whether one finish in the batch may be the cause of a refusal with this status. 500 counts too, because one finish may
/// trigger a fault of the server.
const fn may_be_caused_by_one_finish(status: u16) -> bool {
    matches!(status, 400 | 413 | 422 | 500)
}

/// Sends the last progress of each attempt, and then the ends.
async fn send_batch(state: &WorkerState, batch: &[PendingFinish]) -> Result<Vec<FinishResult>, RequestError> {
    {
        let _guard = state.progress_lock.lock().await;
        let last = |finish: &PendingFinish| state.leases.take_last_progress(&finish.lease, finish.progress.as_ref());
        let progress: Vec<HeartbeatItem> = batch.iter().filter_map(last).collect();
        // If the progress is refused, the end is sent all the same.
        if let Err(error @ RequestError::Retryable { .. }) = send_progress(state, &progress).await {
            return Err(error);
        }
    }
    let items = batch.iter().map(|finish| &*finish.item).collect();
    let response = state.http.post(protocol::FINISH_PATH, &FinishRequest { items }, RESPONSE_TIMEOUT * 2).await?;
    let results = response.read::<FinishResponse>()?.items;
    if results.len() == batch.len() {
        return Ok(results);
    }
    Err(RequestError::Retryable {
        reason: "the response has results for some finishes and not for others".to_owned(),
        after: None,
    })
}

/// Sends the reports about the attempt of one lease.
pub(super) struct LeaseReporter {
    pub state: Arc<WorkerState>,
    pub lease: String,
}

impl Reporter for LeaseReporter {
    fn send_progress(&self, _: &Attempt, progress: Progress) {
        self.state.leases.set_progress(&self.lease, progress);
    }

    async fn send_command(
        &self,
        attempt: &Attempt,
        command: Command,
        should_give_up: impl Fn() -> bool + Send,
    ) -> bool {
        match command {
            Command::Finish { .. } => self.finish(attempt, command).await,
            Command::AcknowledgeCancel { stopping_after, expected_end, .. } => {
                let (lease, stopping_after) = (self.lease.as_str(), stopping_after.as_deref());
                self.acknowledge(&AcknowledgeRequest { lease, stopping_after, expected_end }, should_give_up).await
            }
            // The remaining commands are for attempts with a timeout. The server enforces the timeouts of remote attempts.
            _ => false,
        }
    }

    /// Notifies the application if the lease was lost, and frees the slot.
    fn attempt_stopped(&self, attempt: &Attempt, _: bool) {
        if attempt.is_lost() {
            self.notify_ended(attempt, "lost", None);
        }
        self.state.leases.remove(&self.lease);
    }
}

impl LeaseReporter {
    async fn acknowledge(&self, request: &AcknowledgeRequest<'_>, should_give_up: impl Fn() -> bool) -> bool {
        let mut retries = RETRIES;
        loop {
            match self.state.http.post(protocol::ACKNOWLEDGE_PATH, request, RESPONSE_TIMEOUT * 2).await {
                // The server refuses an acknowledgement if the attempt has ended or no cancel is requested.
                Ok(_) | Err(RequestError::Refused { .. }) => return true,
                Err(RequestError::Retryable { after, .. }) => {
                    if should_give_up() {
                        return false;
                    }
                    sleep(retry_pause(&mut retries, after)).await;
                }
            }
        }
    }

    /// Sends the attempt's end until the server records or finally refuses it. An end that is refused is replaced by a
    /// failure with the reason of the refusal. Without any end, the task would wait until the lease expires, and would
    /// then run again.
    async fn finish(&self, attempt: &Attempt, mut command: Command) -> bool {
        self.state.leases.mark_ending(&self.lease);
        let mut is_replaced = false;
        loop {
            let Command::Finish { attempt: number, lease_hash, end, progress, output } = command else { return false };
            let item = FinishRequestItem::new(&self.lease, &end, output.as_ref());
            let problem = match self.send_finish(&item, progress.as_ref()).await {
                Some(Ok(())) => {
                    self.notify_ended(attempt, item.outcome, item.description().as_deref());
                    return true;
                }
                Some(Err(problem)) => problem,
                None => return false,
            };
            let with_end = |end, output| Command::Finish { attempt: number, lease_hash, end, progress, output };
            match problem.code.as_str() {
                "lease_lost" => {
                    attempt.lose();
                    return true;
                }
                "not_cancelling" => {
                    match replace_unrequested_cancel(with_end(end, output), &Rejection::NotCancelling) {
                        Some(replacement) => command = replacement,
                        None => return true,
                    }
                }
                _ if !is_replaced => {
                    is_replaced = true;
                    tracing::warn!(task = %attempt.task, code = problem.code, detail = problem.detail, "a finish was refused");
                    command = with_end(end_refused_failure(&problem), None::<OutputKept>);
                }
                _ => return true,
            }
        }
    }

    /// Sends the end through the outbox and returns the server's result; `None` if the worker was dropped.
    async fn send_finish(
        &self,
        item: &FinishRequestItem<'_>,
        progress: Option<&Progress>,
    ) -> Option<Result<(), ServerProblem>> {
        let item = to_raw_value(item).ok()?;
        let (finish, result) = PendingFinish::new(self.lease.clone(), item, progress.cloned());
        self.state.finishes.send(finish).ok()?;
        result.await.ok()
    }

    fn notify_ended(&self, attempt: &Attempt, outcome: &str, message: Option<&str>) {
        self.state.http.notify(&WorkerEvent::Ended { task: attempt.task, attempt: attempt.number, outcome, message });
    }
}

/// The failure that replaces a refused end.
fn end_refused_failure(problem: &ServerProblem) -> AttemptEnd {
    let message = format!("the server refused the attempt's end: {} ({})", problem.detail, problem.code);
    AttemptEnd::Failed { error: task_error("end_refused", &message), retryable: false }
}
