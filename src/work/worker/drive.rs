//! An attempt, from its assignment to its recorded end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::attempt::{Acknowledgement, Attempt};
use super::context::{Context, INTERRUPTED};
use super::handler::Handler;
use super::outcome::{Done, Failure};
use super::report::{Reporter, end_of, error_of};
use crate::task::Command;
use crate::task::command::AttemptEnd;
use crate::task::event::ReleasedReason;

/// Progress is sent at most ten times a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Why none of an attempt's code runs any more.
enum Ended {
    /// The handler returned or panicked.
    Returned(Result<Done, Failure>),
    /// It was interrupted, in this step.
    Interrupted(Option<String>),
    /// It took longer than this many seconds.
    TimedOut(u64),
    /// The runtime was shut down: the process is stopping, and the next one records the attempt as lost.
    ShutDown,
}

/// Runs an attempt to its end and reports it, in this order: none of its code runs any more, its end is recorded, its slot
/// is free. `predecessors` are the earlier attempts of the task in this process that have not finished.
pub(in crate::work) async fn drive<R: Reporter>(
    attempt: Arc<Attempt>,
    handler: Arc<dyn Handler>,
    acknowledgements: UnboundedReceiver<Acknowledgement>,
    reporter: Arc<R>,
    predecessors: Vec<CancellationToken>,
) {
    let ended = CancellationToken::new();
    let running = async {
        let how = tokio::select! {
            how = start(&attempt, handler, predecessors) => how,
            never = send_progress(&attempt, &*reporter) => match never {},
        };
        ended.cancel();
        how
    };
    let (how, ()) = tokio::join!(running, send_acknowledgements(&attempt, acknowledgements, &*reporter, &ended));
    let settled = match command(&attempt, how) {
        Some(_) if attempt.is_lost() => true,
        Some(command) => reporter.send_command(&attempt, command, || attempt.is_lost()).await,
        None => false,
    };
    release(&attempt, &*reporter, settled);
}

/// Hands back an attempt that never began.
pub(in crate::work) async fn hand_back<R: Reporter>(attempt: Arc<Attempt>, reporter: Arc<R>) {
    let end = AttemptEnd::Released(ReleasedReason::HandedBack);
    let command = Command::Finish { attempt: attempt.number, lease: None, end, progress: None, output: None };
    let settled = reporter.send_command(&attempt, command, || attempt.is_lost()).await;
    release(&attempt, &*reporter, settled);
}

fn release(attempt: &Attempt, reporter: &impl Reporter, settled: bool) {
    attempt.finished.cancel();
    reporter.release(attempt, settled || attempt.is_lost());
}

/// Starts the handler once no code of the task's earlier attempts runs any more. An attempt that is interrupted or lost
/// before that never starts; its slot is still freed only after theirs, since a free slot says that no code runs.
async fn start(attempt: &Arc<Attempt>, handler: Arc<dyn Handler>, predecessors: Vec<CancellationToken>) -> Ended {
    for predecessor in predecessors {
        predecessor.cancelled().await;
    }
    if attempt.interrupt.is_cancelled() {
        return Ended::Interrupted(None);
    }
    run(attempt, handler).await
}

/// The handler runs on the worker's own threads and this future only watches, so that a handler that blocks stops nothing
/// else.
async fn run(attempt: &Arc<Attempt>, handler: Arc<dyn Handler>) -> Ended {
    let context = Context::new(Arc::clone(attempt));
    let mut code = attempt.runtime.spawn(async move { handler.run(context).await });
    let stopped = tokio::select! {
        biased;
        joined = &mut code => Err(joined),
        () = attempt.interrupt.cancelled() => Ok(Ended::Interrupted(attempt.current_step())),
        seconds = timeout(attempt.created.timeout_s) => Ok(Ended::TimedOut(seconds)),
    };
    let (joined, why) = match stopped {
        Err(joined) => (joined, attempt.interrupt.is_cancelled().then(|| Ended::Interrupted(attempt.current_step()))),
        Ok(why) => {
            attempt.interrupt.cancel();
            code.abort();
            (code.await, Some(why))
        }
    };
    // Blocking steps that outlive the handler's future are the attempt's code too.
    attempt.blocking.close();
    attempt.blocking.wait().await;
    how(joined, why)
}

async fn timeout(seconds: Option<u64>) -> u64 {
    let Some(seconds) = seconds else { return pending().await };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seconds
}

/// What ended it: the handler, or `why` it was stopped. A handler that sees the interrupt from a blocking step may return
/// before its future is dropped; if it only says that it was interrupted, `why` is the better answer.
fn how(joined: Result<Result<Done, Failure>, JoinError>, why: Option<Ended>) -> Ended {
    match (joined, why) {
        (Ok(Err(Failure::Failed { code, .. })), Some(why)) if code == INTERRUPTED => why,
        (Ok(Err(Failure::Cancelled { .. })), Some(why @ Ended::TimedOut(_))) => why,
        (Ok(returned), _) => Ended::Returned(returned),
        (Err(panic), _) if panic.is_panic() => Ended::Returned(Err(Failure::panicked(panic.into_panic().as_ref()))),
        (Err(_), why) => why.unwrap_or(Ended::ShutDown),
    }
}

fn command(attempt: &Attempt, how: Ended) -> Option<Command> {
    let (number, progress) = (attempt.number, attempt.progress());
    let end = match how {
        Ended::Returned(returned) => end_of(returned),
        Ended::Interrupted(_) if attempt.is_handed_back() => AttemptEnd::Released(ReleasedReason::HandedBack),
        Ended::Interrupted(step) => {
            let step = step.map_or_else(String::new, |step| format!(" while {step}"));
            let message = Some(format!("interrupted{step}"));
            end_of(Err(Failure::Cancelled { message, result: None }))
        }
        Ended::TimedOut(s) => {
            let error = error_of("timed_out", &format!("the attempt took longer than {s} s"));
            return Some(Command::LoseAttempt { attempt: number, error, progress });
        }
        Ended::ShutDown => return None,
    };
    Some(Command::Finish { attempt: number, lease: None, end, progress, output: attempt.output() })
}

/// Sends each acknowledgement as it comes. One that can't be recorded must not delay the attempt's end: it is given up when
/// the code has `ended`.
async fn send_acknowledgements(
    attempt: &Attempt,
    mut acknowledgements: UnboundedReceiver<Acknowledgement>,
    reporter: &impl Reporter,
    ended: &CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = acknowledgements.recv() => next,
            () = ended.cancelled() => None,
        };
        let Some(Acknowledgement { stopping_after, expected_end }) = next else { return };
        let command = Command::AcknowledgeCancel { attempt: attempt.number, lease: None, stopping_after, expected_end };
        reporter.send_command(attempt, command, || ended.is_cancelled()).await;
    }
}

async fn send_progress(attempt: &Attempt, reporter: &impl Reporter) -> Infallible {
    let mut changes = attempt.watch_progress();
    // The first progress may be older than this subscription. Neither wait can fail: the sender lives in the attempt.
    let _ = changes.wait_for(Option::is_some).await;
    loop {
        changes.mark_unchanged();
        if let Some(progress) = attempt.progress() {
            reporter.send_progress(attempt, progress);
        }
        tokio::time::sleep(PROGRESS_EVERY).await;
        let _ = changes.changed().await;
    }
}
