//! How the ends of attempts are told over the wire: in batches, until each is recorded or refused.

use std::convert::Infallible;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::beat::{ANSWER_WITHIN, tell};
use super::http::{Backoff, Trouble};
use super::wire::{self, Ack, BeatOf, Finished, Item, ItemAnswer, Problem};
use super::{Link, Note};
use crate::task::Rejection;
use crate::task::command::{Command, End};
use crate::task::event::{OutputKept, Progress};
use crate::work::worker::attempt::Attempt;
use crate::work::worker::report::{Voice, error_of, unasked};

/// Finishes in one request; the server takes no more.
const BATCH_MAX: usize = 1000;
/// Bytes in one request, well below the 16 MiB that the server takes.
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// One end on its way.
pub(super) struct Ending {
    lease: String,
    item: Box<RawValue>,
    /// The last progress.
    progress: Option<Progress>,
    /// Whoever waits for the server's word on it; gone where the worker was dropped.
    answer: oneshot::Sender<Result<(), Problem>>,
}

#[derive(Serialize)]
struct Finish<'a> {
    items: Vec<&'a RawValue>,
}

/// Sends what is waiting, one batch after the other.
pub(super) async fn send(link: &Link, mut waiting: UnboundedReceiver<Ending>) -> Infallible {
    let mut backoff = Backoff::new();
    let mut batch: Vec<Ending> = Vec::new();
    loop {
        if batch.is_empty() && waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return std::future::pending().await;
        }
        let mut bytes = 0;
        let fits = |ending: &&Ending| {
            bytes += ending.item.get().len();
            bytes <= BYTES_MAX
        };
        let n = batch.iter().take_while(fits).count().max(1);
        match one_batch(link, &batch[..n]).await {
            Ok(answers) => {
                backoff.reset();
                let mut later = Vec::new();
                for (ending, answer) in batch.drain(..n).zip(answers) {
                    match answer.problem {
                        Some(problem) if problem.retryable => later.push(ending),
                        // Nobody waits for it where the worker was dropped.
                        problem => drop(ending.answer.send(problem.map_or(Ok(()), Err))),
                    }
                }
                if !later.is_empty() {
                    batch.extend(later);
                    backoff.pause(None).await;
                }
            }
            Err(Trouble::Later { after, .. }) => backoff.pause(after).await,
            // The batch as a whole: one of them may be the reason, and the others are not to suffer for it.
            Err(Trouble::Refused { status: 400 | 413 | 422, problem }) if n == 1 => {
                for ending in batch.drain(..1) {
                    drop(ending.answer.send(Err(problem.clone())));
                }
            }
            Err(Trouble::Refused { status: 400 | 413 | 422, .. }) => one_by_one(link, &mut batch, n).await,
            // A token that holds no longer may hold again.
            Err(Trouble::Refused { status, problem }) => {
                tracing::warn!(status, code = problem.code, detail = problem.detail, "finishes were refused");
                backoff.pause(None).await;
            }
        }
    }
}

/// Sends the first `n` each for itself; what can't be sent now stays.
async fn one_by_one(link: &Link, batch: &mut Vec<Ending>, n: usize) {
    let mut left = Vec::new();
    for ending in batch.drain(..n) {
        let refused = match one_batch(link, std::slice::from_ref(&ending)).await {
            Ok(answers) => answers.into_iter().next().and_then(|answer| answer.problem),
            Err(Trouble::Refused { problem, .. }) => Some(problem),
            Err(Trouble::Later { .. }) => {
                left.push(ending);
                continue;
            }
        };
        drop(ending.answer.send(refused.map_or(Ok(()), Err)));
    }
    batch.extend(left);
}

/// The last progress of each, then the ends.
async fn one_batch(link: &Link, batch: &[Ending]) -> Result<Vec<ItemAnswer>, Trouble> {
    {
        let _speaking = link.speaking.lock().await;
        let last = |ending: &Ending| link.leases.last_remark(&ending.lease, ending.progress.as_ref());
        let remarks: Vec<BeatOf> = batch.iter().filter_map(last).collect();
        // A remark that is refused must not hold up the end.
        if let Err(trouble @ Trouble::Later { .. }) = tell(link, &remarks).await {
            return Err(trouble);
        }
    }
    let items = batch.iter().map(|ending| &*ending.item).collect();
    let reply = link.http.post(wire::FINISH, &Finish { items }, ANSWER_WITHIN * 2).await?;
    let answers = reply.read::<Finished>()?.items;
    if answers.len() == batch.len() {
        return Ok(answers);
    }
    Err(Trouble::Later { why: "it answered some finishes and not others".to_owned(), after: None })
}

/// One lease's voice.
pub(super) struct Leased {
    pub link: Arc<Link>,
    pub lease: String,
}

impl Voice for Leased {
    fn note(&self, _: &Attempt, progress: Progress) {
        self.link.leases.note(&self.lease, progress);
    }

    async fn tell(&self, attempt: &Attempt, command: Command, give_up: impl Fn() -> bool + Send) -> bool {
        match command {
            Command::Finish { .. } => self.finish(attempt, command).await,
            Command::AcknowledgeCancel { stopping_after, expected_end, .. } => {
                let (lease, stopping_after) = (self.lease.as_str(), stopping_after.as_deref());
                self.acknowledge(&Ack { lease, stopping_after, expected_end }, give_up).await
            }
            // The driver says nothing else of an attempt whose time the server bounds.
            _ => false,
        }
    }

    fn over(&self, attempt: &Attempt, told: bool) {
        if attempt.is_lost() && told {
            self.ended(attempt, "lost", None);
        }
        self.link.leases.remove(&self.lease);
    }
}

impl Leased {
    async fn acknowledge(&self, ack: &Ack<'_>, give_up: impl Fn() -> bool) -> bool {
        let mut backoff = Backoff::new();
        loop {
            match self.link.http.post(wire::ACK, ack, ANSWER_WITHIN * 2).await {
                // Refused: the attempt is over, or nobody asks any more.
                Ok(_) | Err(Trouble::Refused { .. }) => return true,
                Err(Trouble::Later { after, .. }) => {
                    if give_up() {
                        return false;
                    }
                    backoff.pause(after).await;
                }
            }
        }
    }

    /// A finish that the server can't take at all becomes a failure that says so: else the task would wait for a lease
    /// that nobody keeps.
    async fn finish(&self, attempt: &Attempt, mut command: Command) -> bool {
        self.link.leases.ends(&self.lease);
        let mut refused = false;
        loop {
            let Command::Finish { attempt: number, lease, end, progress, output } = command else { return false };
            let item = Item::of(&self.lease, &end, output.as_ref());
            let problem = match self.one(&item, progress.as_ref()).await {
                Some(Ok(())) => {
                    self.ended(attempt, item.outcome, item.words().as_deref());
                    return true;
                }
                Some(Err(problem)) => problem,
                None => return false,
            };
            let again = |end, output| Command::Finish { attempt: number, lease, end, progress, output };
            match problem.code.as_str() {
                "lease_lost" => {
                    attempt.lose();
                    return true;
                }
                "not_cancelling" => match unasked(again(end, output), &Rejection::NotCancelling) {
                    Some(instead) => command = instead,
                    None => return true,
                },
                _ if !refused => {
                    refused = true;
                    tracing::warn!(task = %attempt.task, code = problem.code, detail = problem.detail, "a finish was refused");
                    command = again(refused_end(&problem), None::<OutputKept>);
                }
                _ => return true,
            }
        }
    }

    /// None where the worker was dropped.
    async fn one(&self, item: &Item<'_>, progress: Option<&Progress>) -> Option<Result<(), Problem>> {
        let item = to_raw_value(item).ok()?;
        let (answer, answered) = oneshot::channel();
        let ending = Ending { lease: self.lease.clone(), item, progress: progress.cloned(), answer };
        self.link.endings.send(ending).ok()?;
        answered.await.ok()
    }

    fn ended(&self, attempt: &Attempt, outcome: &str, words: Option<&str>) {
        self.link.http.say(&Note::Ended { task: attempt.task, attempt: attempt.number, outcome, words });
    }
}

fn refused_end(problem: &Problem) -> End {
    let words = format!("the server did not take the attempt's end: {} ({})", problem.detail, problem.code);
    End::Failed { error: error_of("end_refused", &words), retryable: false }
}
