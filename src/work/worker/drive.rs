//! An attempt, from its assignment to its recorded end.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::attempt::{Ack, Attempt};
use super::context::{Context, INTERRUPTED};
use super::handler::{Done, Failure, Handler};
use super::report::{self, Voice, error_of};
use crate::task::Command;
use crate::task::command::End;
use crate::task::event::ReleasedReason;

/// Progress is passed on at most ten times a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// How the code of an attempt came to its end.
enum Ended {
    /// By itself.
    Itself(Result<Done, Failure>),
    /// It was interrupted, in this step.
    Interrupted(Option<String>),
    /// It took longer than this many seconds.
    TimedOut(u64),
    /// The runtime went away under it: the process is stopping, and the next one will find the attempt lost.
    CutOff,
}

/// Runs an attempt to its end and tells it, in this order: none of its code runs any more, the end is recorded, it is over.
pub(in crate::work) async fn drive<V: Voice>(
    attempt: Arc<Attempt>,
    handler: Arc<dyn Handler>,
    acks: UnboundedReceiver<Ack>,
    voice: Arc<V>,
    formers: Vec<CancellationToken>,
) {
    // No attempt of a task starts while the former's code still runs.
    for former in formers {
        former.cancelled().await;
    }
    let ended = CancellationToken::new();
    let working = async {
        let how = tokio::select! {
            how = run(&attempt, handler) => how,
            never = pass_on_progress(&attempt, &*voice) => match never {},
        };
        ended.cancel();
        how
    };
    let (how, ()) = tokio::join!(working, acknowledge(&attempt, acks, &*voice, &ended));
    let told = match command(&attempt, how) {
        Some(_) if attempt.is_lost() => true,
        Some(command) => voice.tell(&attempt, command, || attempt.is_lost()).await,
        None => false,
    };
    leave(&attempt, &*voice, told);
}

/// Hands an attempt back that never began.
pub(in crate::work) async fn hand_back<V: Voice>(attempt: Arc<Attempt>, voice: Arc<V>) {
    let end = End::Released(ReleasedReason::HandedBack);
    let command = Command::Finish { attempt: attempt.number, lease: None, end, progress: None, output: None };
    let told = voice.tell(&attempt, command, || attempt.is_lost()).await;
    leave(&attempt, &*voice, told);
}

fn leave(attempt: &Attempt, voice: &impl Voice, told: bool) {
    attempt.over.cancel();
    voice.over(attempt, told || attempt.is_lost());
}

/// The handler runs on the worker's own threads; this one only watches, so that a handler that blocks stops nobody else.
async fn run(attempt: &Arc<Attempt>, handler: Arc<dyn Handler>) -> Ended {
    let context = Context::new(Arc::clone(attempt));
    let mut code = attempt.runtime.spawn(async move { handler.run(context).await });
    let timeout_s = attempt.created.timeout_s;
    let timeout = async {
        match timeout_s {
            Some(s) => {
                tokio::time::sleep(Duration::from_secs(s)).await;
                s
            }
            None => pending().await,
        }
    };
    let cut = tokio::select! {
        biased;
        joined = &mut code => Err(joined),
        () = attempt.cut.cancelled() => Ok(Ended::Interrupted(attempt.step())),
        s = timeout => Ok(Ended::TimedOut(s)),
    };
    let (joined, why) = match cut {
        Err(joined) => (joined, attempt.cut.is_cancelled().then(|| Ended::Interrupted(attempt.step()))),
        Ok(why) => {
            attempt.cut.cancel();
            code.abort();
            (code.await, Some(why))
        }
    };
    // What the handler left behind on blocking threads is its code too.
    attempt.blocking.close();
    attempt.blocking.wait().await;
    how(joined, why)
}

/// What ended it: the handler, or `why` it was cut. A handler that sees the cut from a blocking step may be faster than
/// the cut itself; what it says then about being cut gives way to `why`.
fn how(joined: Result<Result<Done, Failure>, JoinError>, why: Option<Ended>) -> Ended {
    match (joined, why) {
        (Ok(Err(Failure::Failed { code, .. })), Some(why)) if code == INTERRUPTED => why,
        (Ok(Err(Failure::Cancelled { .. })), Some(why @ Ended::TimedOut(_))) => why,
        (Ok(ended), _) => Ended::Itself(ended),
        (Err(panic), _) if panic.is_panic() => Ended::Itself(Err(report::panicked(panic.into_panic().as_ref()))),
        (Err(_), why) => why.unwrap_or(Ended::CutOff),
    }
}

fn command(attempt: &Attempt, how: Ended) -> Option<Command> {
    let (number, progress) = (attempt.number, attempt.progress());
    let end = match how {
        Ended::Itself(ended) => report::end(ended),
        Ended::Interrupted(_) if attempt.is_handed_back() => End::Released(ReleasedReason::HandedBack),
        Ended::Interrupted(step) => {
            let step = step.map_or_else(String::new, |step| format!(" while {step}"));
            let message = Some(format!("interrupted{step}"));
            report::end(Err(Failure::Cancelled { message, result: None }))
        }
        Ended::TimedOut(s) => {
            let error = error_of("timed_out", &format!("the attempt took longer than {s} s"));
            return Some(Command::LoseAttempt { attempt: number, error, progress });
        }
        Ended::CutOff => return None,
    };
    Some(Command::Finish { attempt: number, lease: None, end, progress, output: attempt.output() })
}

/// Tells each acknowledgement as it comes. One that can't be recorded is not worth more than the attempt's end.
async fn acknowledge(
    attempt: &Attempt,
    mut acks: UnboundedReceiver<Ack>,
    voice: &impl Voice,
    ended: &CancellationToken,
) {
    loop {
        let ack = tokio::select! {
            biased;
            ack = acks.recv() => ack,
            () = ended.cancelled() => None,
        };
        let Some(Ack { stopping_after, expected_end }) = ack else { return };
        let command = Command::AcknowledgeCancel { attempt: attempt.number, lease: None, stopping_after, expected_end };
        voice.tell(attempt, command, || ended.is_cancelled()).await;
    }
}

async fn pass_on_progress(attempt: &Attempt, voice: &impl Voice) -> Infallible {
    let mut said = attempt.watch_progress();
    // The first remark may be older than this watch. Neither wait can fail: the sender lives in the attempt.
    let _ = said.wait_for(Option::is_some).await;
    loop {
        said.mark_unchanged();
        if let Some(progress) = attempt.progress() {
            voice.note(attempt, progress);
        }
        tokio::time::sleep(PROGRESS_EVERY).await;
        let _ = said.changed().await;
    }
}
