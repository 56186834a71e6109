//! Runs an attempt, from its assignment to its recorded end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinError;

use super::attempt::{Acknowledgement, Attempt};
use super::context::{Context, INTERRUPTED};
use super::handler::Handler;
use super::latch::Latch;
use super::outcome::{Done, Failure};
use super::report::{Reporter, end_from_result, task_error};
use crate::task::Command;
use crate::task::command::AttemptEnd;
use crate::task::event::ReleasedReason;

/// The least time between two reports of progress.
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// How the handler and its blocking steps have ended.
enum HandlerEnd {
    /// The handler returned or panicked.
    Returned(Result<Done, Failure>),
    /// The attempt was interrupted, in this step.
    Interrupted(Option<String>),
    /// The attempt took longer than this many seconds.
    TimedOut(u64),
    /// The runtime was shut down, because the process is stopping. The next process records the attempt as lost.
    ShutDown,
}

/// Runs an attempt and reports its end. First it waits until none of the attempt's code runs any more, then it reports the
/// end, and then it reports that the attempt has stopped. `predecessors` are set when the earlier attempts of the task in
/// this process have finished.
pub(in crate::work) async fn run_attempt<R: Reporter>(
    attempt: Arc<Attempt>,
    handler: Arc<dyn Handler>,
    acknowledgements: UnboundedReceiver<Acknowledgement>,
    reporter: Arc<R>,
    predecessors: Vec<Latch>,
) {
    let handler_ended = Latch::default();
    let running = async {
        let end = tokio::select! {
            end = start(&attempt, handler, predecessors) => end,
            never = send_progress(&attempt, &*reporter) => match never {},
        };
        handler_ended.set();
        end
    };
    let (end, ()) =
        tokio::join!(running, send_acknowledgements(&attempt, acknowledgements, &*reporter, &handler_ended));
    let is_report_done = match end_command(&attempt, end) {
        Some(_) if attempt.is_lost() => true,
        Some(command) => reporter.send_command(&attempt, command, || attempt.is_lost()).await,
        None => false,
    };
    report_stop(&attempt, &*reporter, is_report_done);
}

/// Releases an attempt that never began: its task is queued again.
pub(in crate::work) async fn release<R: Reporter>(attempt: Arc<Attempt>, reporter: Arc<R>) {
    let end = AttemptEnd::Released(ReleasedReason::HandedBack);
    let command = Command::Finish { attempt: attempt.number, lease_hash: None, end, progress: None, output: None };
    let is_report_done = reporter.send_command(&attempt, command, || attempt.is_lost()).await;
    report_stop(&attempt, &*reporter, is_report_done);
}

/// Marks the attempt as finished and reports to the reporter that its code has stopped. The end of a lost attempt needs no
/// report.
fn report_stop(attempt: &Attempt, reporter: &impl Reporter, is_report_done: bool) {
    attempt.finished.set();
    reporter.attempt_stopped(attempt, is_report_done || attempt.is_lost());
}

/// Starts the handler when no code of the task's earlier attempts runs any more. If the attempt is interrupted or lost
/// before that, its handler is never started, but this function waits all the same: a slot may be freed only when no
/// code of the task runs.
async fn start(attempt: &Arc<Attempt>, handler: Arc<dyn Handler>, predecessors: Vec<Latch>) -> HandlerEnd {
    for predecessor in predecessors {
        predecessor.wait().await;
    }
    if attempt.interrupt.is_cancelled() {
        return HandlerEnd::Interrupted(None);
    }
    run(attempt, handler).await
}

/// Runs the handler on the worker's own threads and waits for it here. So a handler that blocks its thread doesn't
/// block this future.
async fn run(attempt: &Arc<Attempt>, handler: Arc<dyn Handler>) -> HandlerEnd {
    let context = Context::new(Arc::clone(attempt));
    let mut handler_task = attempt.runtime.spawn(async move { handler.run(context).await });
    let stopped = tokio::select! {
        biased;
        joined = &mut handler_task => Err(joined),
        () = attempt.interrupt.cancelled() => Ok(HandlerEnd::Interrupted(attempt.current_step())),
        seconds = timeout(attempt.created.timeout_s) => Ok(HandlerEnd::TimedOut(seconds)),
    };
    let (joined, stop_reason) = match stopped {
        Err(joined) => {
            (joined, attempt.interrupt.is_cancelled().then(|| HandlerEnd::Interrupted(attempt.current_step())))
        }
        Ok(stop_reason) => {
            attempt.interrupt.cancel();
            handler_task.abort();
            (handler_task.await, Some(stop_reason))
        }
    };
    // The blocking steps are code of the attempt too, and may run longer than the handler's future.
    attempt.blocking.close();
    attempt.blocking.wait().await;
    decide_end(joined, stop_reason)
}

/// Waits for the timeout and returns it in seconds. Waits for ever if there is none.
async fn timeout(seconds: Option<u64>) -> u64 {
    let Some(seconds) = seconds else { return pending().await };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    seconds
}

/// Decides how the attempt has ended: by the result of the handler, or by `stop_reason`. A handler that notices the
/// interrupt in a blocking step may return before its future is dropped. If it returns only that it was interrupted,
/// `stop_reason` is used, because it is more exact.
fn decide_end(joined: Result<Result<Done, Failure>, JoinError>, stop_reason: Option<HandlerEnd>) -> HandlerEnd {
    match (joined, stop_reason) {
        (Ok(Err(Failure::Failed { code, .. })), Some(stop_reason)) if code == INTERRUPTED => stop_reason,
        (Ok(Err(Failure::Cancelled { .. })), Some(stop_reason @ HandlerEnd::TimedOut(_))) => stop_reason,
        (Ok(returned), _) => HandlerEnd::Returned(returned),
        (Err(panic), _) if panic.is_panic() => {
            HandlerEnd::Returned(Err(Failure::panicked(panic.into_panic().as_ref())))
        }
        (Err(_), stop_reason) => stop_reason.unwrap_or(HandlerEnd::ShutDown),
    }
}

/// Makes the command that records the end; `None` if the process is stopping.
fn end_command(attempt: &Attempt, end: HandlerEnd) -> Option<Command> {
    let (number, progress) = (attempt.number, attempt.progress());
    let end = match end {
        HandlerEnd::Returned(returned) => end_from_result(returned),
        HandlerEnd::Interrupted(_) if attempt.is_released() => AttemptEnd::Released(ReleasedReason::HandedBack),
        HandlerEnd::Interrupted(step) => {
            let step = step.map_or_else(String::new, |step| format!(" while {step}"));
            let message = Some(format!("interrupted{step}"));
            end_from_result(Err(Failure::Cancelled { message, result: None }))
        }
        HandlerEnd::TimedOut(s) => {
            let error = task_error("timed_out", &format!("the attempt took longer than {s} s"));
            return Some(Command::LoseAttempt { attempt: number, error, progress });
        }
        HandlerEnd::ShutDown => return None,
    };
    Some(Command::Finish { attempt: number, lease_hash: None, end, progress, output: attempt.output() })
}

/// Sends the acknowledgements as they arrive. If one can't be recorded, it is repeated only until `handler_ended`, so that
/// it doesn't delay the report of the attempt's end.
async fn send_acknowledgements(
    attempt: &Attempt,
    mut acknowledgements: UnboundedReceiver<Acknowledgement>,
    reporter: &impl Reporter,
    handler_ended: &Latch,
) {
    loop {
        let next = tokio::select! {
            biased;
            next = acknowledgements.recv() => next,
            () = handler_ended.wait() => None,
        };
        let Some(Acknowledgement { stopping_after, expected_end }) = next else { return };
        let command =
            Command::AcknowledgeCancel { attempt: attempt.number, lease_hash: None, stopping_after, expected_end };
        reporter.send_command(attempt, command, || handler_ended.is_set()).await;
    }
}

/// Sends new progress, at most once in [`PROGRESS_INTERVAL_MIN`].
async fn send_progress(attempt: &Attempt, reporter: &impl Reporter) -> Infallible {
    let mut changes = attempt.watch_progress();
    // The first progress may have been set before this subscription. The waits here can't fail, because the attempt has the
    // sender.
    let _ = changes.wait_for(Option::is_some).await;
    loop {
        changes.mark_unchanged();
        if let Some(progress) = attempt.progress() {
            reporter.send_progress(attempt, progress);
        }
        tokio::time::sleep(PROGRESS_INTERVAL_MIN).await;
        let _ = changes.changed().await;
    }
}
