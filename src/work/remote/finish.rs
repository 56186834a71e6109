//! How attempts are reported over HTTP: finishes in batches, until each is recorded or refused for good.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::to_raw_value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, sleep_until};

use super::heartbeat::send_progress;
use super::http::{ANSWER_WITHIN, RETRIES, RequestError, retry_pause};
use super::link::Link;
use super::note::Note;
use super::outbox::{Outbox, PendingFinish};
use super::wire::{
    self, AcknowledgeRequest, FinishAnswer, FinishItem, FinishReply, FinishRequest, LeaseHeartbeat, Problem,
};
use crate::task::Rejection;
use crate::task::command::{AttemptEnd, Command};
use crate::task::event::{OutputKept, Progress};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::report::{Reporter, error_of, stopped_unasked};

/// Sends the finishes that come, one request after the other.
pub(super) async fn send_finishes(link: &Link, mut incoming: UnboundedReceiver<PendingFinish>) -> Infallible {
    let (mut outbox, mut retries) = (Outbox::new(), RETRIES);
    loop {
        wait_until_due(&mut outbox, &mut incoming).await;
        let batch = outbox.take_batch(Instant::now());
        match send_batch(link, &batch).await {
            Ok(answers) => {
                retries.reset();
                outbox.grow_batches();
                settle(&mut outbox, batch, answers);
            }
            Err(RequestError::Retryable { after, .. }) => {
                outbox.retry_batch(batch, Instant::now());
                sleep(retry_pause(&mut retries, after)).await;
            }
            Err(RequestError::Refused { status, problem }) if concerns_body(status) => {
                refuse(&mut outbox, batch, &problem);
            }
            // It concerns the worker and not its finishes: a token that is refused may be accepted later.
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

fn settle(outbox: &mut Outbox, batch: Vec<PendingFinish>, answers: Vec<FinishAnswer>) {
    for (finish, answer) in batch.into_iter().zip(answers) {
        match answer.problem {
            Some(problem) if problem.retryable == Some(true) => outbox.retry(finish, Instant::now()),
            Some(problem) => finish.answer(Err(problem)),
            None => finish.answer(Ok(())),
        }
    }
}

/// Handles a batch whose request was refused for good because of its body: a finish that stands alone is refused, several
/// are sent in smaller batches.
fn refuse(outbox: &mut Outbox, mut batch: Vec<PendingFinish>, problem: &Problem) {
    match batch.pop() {
        Some(finish) if batch.is_empty() => finish.answer(Err(problem.clone())),
        Some(finish) => {
            batch.push(finish);
            outbox.split_batch(batch, Instant::now());
        }
        None => {}
    }
}

/// Whether a refusal with this status is due to what the request holds, and not to who sends it.
const fn concerns_body(status: u16) -> bool {
    matches!(status, 400 | 413 | 422 | 500)
}

/// Sends the last progress of each attempt, then the ends.
async fn send_batch(link: &Link, batch: &[PendingFinish]) -> Result<Vec<FinishAnswer>, RequestError> {
    {
        let _sending = link.sending_progress.lock().await;
        let last = |finish: &PendingFinish| link.leases.take_last_progress(&finish.lease, finish.progress.as_ref());
        let progress: Vec<LeaseHeartbeat> = batch.iter().filter_map(last).collect();
        // Progress that is refused must not hold up the end.
        if let Err(error @ RequestError::Retryable { .. }) = send_progress(link, &progress).await {
            return Err(error);
        }
    }
    let items = batch.iter().map(|finish| &*finish.item).collect();
    let reply = link.http.post(wire::FINISH, &FinishRequest { items }, ANSWER_WITHIN * 2).await?;
    let answers = reply.read::<FinishReply>()?.items;
    if answers.len() == batch.len() {
        return Ok(answers);
    }
    Err(RequestError::Retryable { why: "it answered some finishes and not others".to_owned(), after: None })
}

/// Reports on the attempt of one lease.
pub(super) struct LeaseReporter {
    pub link: Arc<Link>,
    pub lease: String,
}

impl Reporter for LeaseReporter {
    fn send_progress(&self, _: &Attempt, progress: Progress) {
        self.link.leases.set_progress(&self.lease, progress);
    }

    async fn send_command(&self, attempt: &Attempt, command: Command, give_up: impl Fn() -> bool + Send) -> bool {
        match command {
            Command::Finish { .. } => self.finish(attempt, command).await,
            Command::AcknowledgeCancel { stopping_after, expected_end, .. } => {
                let (lease, stopping_after) = (self.lease.as_str(), stopping_after.as_deref());
                self.acknowledge(&AcknowledgeRequest { lease, stopping_after, expected_end }, give_up).await
            }
            // A worker sends no other command of an attempt without a timeout of its own.
            _ => false,
        }
    }

    fn release(&self, attempt: &Attempt, settled: bool) {
        if attempt.is_lost() && settled {
            self.notify_ended(attempt, "lost", None);
        }
        self.link.leases.remove(&self.lease);
    }
}

impl LeaseReporter {
    async fn acknowledge(&self, request: &AcknowledgeRequest<'_>, give_up: impl Fn() -> bool) -> bool {
        let mut retries = RETRIES;
        loop {
            match self.link.http.post(wire::ACKNOWLEDGE, request, ANSWER_WITHIN * 2).await {
                // Refused: the attempt is over, or no cancel is requested any more.
                Ok(_) | Err(RequestError::Refused { .. }) => return true,
                Err(RequestError::Retryable { after, .. }) => {
                    if give_up() {
                        return false;
                    }
                    sleep(retry_pause(&mut retries, after)).await;
                }
            }
        }
    }

    /// Sends the attempt's end until it is recorded or refused for good. An end that is refused is replaced by a failure
    /// that says so: without any end the task would wait until the lease expires, and then run again.
    async fn finish(&self, attempt: &Attempt, mut command: Command) -> bool {
        self.link.leases.mark_ending(&self.lease);
        let mut is_replaced = false;
        loop {
            let Command::Finish { attempt: number, lease, end, progress, output } = command else { return false };
            let item = FinishItem::new(&self.lease, &end, output.as_ref());
            let problem = match self.send_finish(&item, progress.as_ref()).await {
                Some(Ok(())) => {
                    self.notify_ended(attempt, item.outcome, item.description().as_deref());
                    return true;
                }
                Some(Err(problem)) => problem,
                None => return false,
            };
            let with_end = |end, output| Command::Finish { attempt: number, lease, end, progress, output };
            match problem.code.as_str() {
                "lease_lost" => {
                    attempt.lose();
                    return true;
                }
                "not_cancelling" => match stopped_unasked(with_end(end, output), &Rejection::NotCancelling) {
                    Some(replacement) => command = replacement,
                    None => return true,
                },
                _ if !is_replaced => {
                    is_replaced = true;
                    tracing::warn!(task = %attempt.task, code = problem.code, detail = problem.detail, "a finish was refused");
                    command = with_end(end_refused(&problem), None::<OutputKept>);
                }
                _ => return true,
            }
        }
    }

    /// The server's answer; `None` if the worker was dropped.
    async fn send_finish(&self, item: &FinishItem<'_>, progress: Option<&Progress>) -> Option<Result<(), Problem>> {
        let item = to_raw_value(item).ok()?;
        let (finish, answer) = PendingFinish::new(self.lease.clone(), item, progress.cloned());
        self.link.finishes.send(finish).ok()?;
        answer.await.ok()
    }

    fn notify_ended(&self, attempt: &Attempt, outcome: &str, words: Option<&str>) {
        self.link.http.notify(&Note::Ended { task: attempt.task, attempt: attempt.number, outcome, words });
    }
}

fn end_refused(problem: &Problem) -> AttemptEnd {
    let message = format!("the server did not take the attempt's end: {} ({})", problem.detail, problem.code);
    AttemptEnd::Failed { error: error_of("end_refused", &message), retryable: false }
}
