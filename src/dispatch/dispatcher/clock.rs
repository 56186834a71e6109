//! What time does: tasks become ready, rungs of the ladder are climbed, attempts take too long, leases end.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};

use crate::store::now;
use crate::task::event::TaskError;
use crate::task::{Command, Status, TaskId, Timestamp};
use crate::views::Timer;

use super::remote::Waiter;
use super::{Dispatcher, PAUSE, system};
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;

/// Timers that are heard at once, before people's commands get their turn.
const CHUNK: usize = 200;
/// The longest that a timer sleeps before it looks again: clocks are set, and machines sleep.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// A timer that comes so much too late means that this process was away: then its workers could not reach it either.
const AWAY: Duration = Duration::from_secs(2);

/// What is set.
#[derive(Default)]
pub(super) struct Clock {
    /// For the tasks: until when.
    tasks: Option<(SpawnHandle, Timestamp)>,
    /// For the leases: until when.
    leases: Option<(SpawnHandle, Instant)>,
    /// For the workers that wait for work or news: until when.
    waits: Option<(SpawnHandle, Instant)>,
    /// Timers of tasks are being heard.
    busy: bool,
}

impl Dispatcher {
    /// Sets the timer to the next task for which time does something.
    pub(super) fn arm(&mut self, ctx: &mut Context<Self>) {
        let due = self.capacity.pending().next_due().filter(|_| !self.clock.busy);
        if self.clock.tasks.as_ref().map(|(_, at)| *at) == due {
            return;
        }
        if let Some((timer, _)) = self.clock.tasks.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = due {
            let wait = due.since(now()).min(LOOK_AGAIN);
            self.clock.tasks = Some((ctx.run_later(wait, Self::hear_timers), due));
        }
    }

    /// What is due, in chunks: each is durable before the next.
    fn hear_timers(&mut self, ctx: &mut Context<Self>) {
        self.clock.tasks = None;
        let due = self.capacity.pending().due(now(), CHUNK);
        if due.is_empty() {
            return self.arm(ctx);
        }
        self.clock.busy = true;
        let asks: Vec<Execute> = due.into_iter().map(|(task, timer)| system(task, self.command(task, timer))).collect();
        ctx.spawn(execute(self.registry.clone(), asks).into_actor(self).map(|asks, this, ctx| {
            this.clock.busy = false;
            Self::insist_later(asks, ctx);
            this.arm(ctx);
        }));
    }

    fn command(&self, task: TaskId, timer: Timer) -> Command {
        match timer {
            Timer::Enqueue(reason) => Command::Enqueue { reason },
            Timer::Climb(attempt, rung) => {
                let asked = self.read.views().get(task).and_then(|row| row.cancel().map(|cancel| cancel.rung_at));
                let after = asked.map_or(Duration::ZERO, |asked| now().since(asked)).as_millis();
                let reason = Some(format!("not stopped after {after} ms"));
                Command::Escalate { rung, reason, attempt: Some(attempt) }
            }
            Timer::TimeOut(attempt, bound) => {
                self.lost(task, attempt, "timed_out", format!("the attempt took longer than {bound} s"))
            }
        }
    }

    fn lost(&self, task: TaskId, attempt: u32, code: &str, message: String) -> Command {
        let progress = self.read.views().live_progress(task).cloned();
        Command::LoseAttempt { attempt, error: TaskError { code: code.to_owned(), message }, progress }
    }

    /// Sets the timer to the lease that ends next.
    pub(super) fn arm_leases(&mut self, ctx: &mut Context<Self>) {
        let due = self.leases.next_deadline();
        // A timer that is set too early finds nothing and is set again: most deadlines move on before they come.
        if let (Some((_, set)), Some(due)) = (&self.clock.leases, due)
            && *set <= due
        {
            return;
        }
        if let Some((timer, _)) = self.clock.leases.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = due {
            let wait = due.saturating_duration_since(Instant::now());
            self.clock.leases = Some((ctx.run_later(wait, Self::end_leases), due));
        }
    }

    fn end_leases(&mut self, ctx: &mut Context<Self>) {
        let (set, now) = (self.clock.leases.take(), Instant::now());
        let late = set.map_or(Duration::ZERO, |(_, set)| now.saturating_duration_since(set));
        if late > AWAY {
            tracing::warn!(?late, "this process was away; the leases begin anew");
            self.leases.renew(now);
        }
        let ended = self.leases.expired(now).into_iter().map(|(task, attempt)| {
            let message = "its worker has not been heard of for as long as its lease lives".to_owned();
            system(task, self.lost(task, attempt, "lease_expired", message))
        });
        let ended = ended.collect();
        self.insist(ended, ctx);
        self.arm_leases(ctx);
    }

    /// Sets the timer for a wait that ends then. There is one for all of them, and it may come too early: an actor looks
    /// at each of its timers whenever it is woken, and those who wait are many.
    pub(super) fn arm_waits(&mut self, due: Instant, ctx: &mut Context<Self>) {
        if self.clock.waits.as_ref().is_some_and(|(_, set)| *set <= due) {
            return;
        }
        if let Some((timer, _)) = self.clock.waits.take() {
            ctx.cancel_future(timer);
        }
        let wait = due.saturating_duration_since(Instant::now());
        self.clock.waits = Some((ctx.run_later(wait, Self::end_waits), due));
    }

    fn end_waits(&mut self, ctx: &mut Context<Self>) {
        self.clock.waits = None;
        let now = Instant::now();
        self.waiters.extract_if(.., |waiter| waiter.until <= now).for_each(Waiter::send_away);
        self.leases.end_waits(now);
        let next = self.waiters.iter().map(|waiter| waiter.until).chain(self.leases.next_wait()).min();
        if let Some(next) = next {
            self.arm_waits(next, ctx);
        }
    }

    /// Commands that must not be lost: what the log could not take now is tried again.
    pub(super) fn insist(&self, asks: Vec<Execute>, ctx: &mut Context<Self>) {
        if asks.is_empty() {
            return;
        }
        let sent = execute(self.registry.clone(), asks);
        ctx.spawn(sent.into_actor(self).map(|asks, _, ctx| Self::insist_later(asks, ctx)));
    }

    fn insist_later(asks: Vec<Execute>, ctx: &mut Context<Self>) {
        if !asks.is_empty() {
            ctx.run_later(PAUSE, move |this, ctx| this.insist(asks, ctx));
        }
    }
}

/// Sends the commands; those that are to be sent again.
async fn execute(registry: Registry, asks: Vec<Execute>) -> Vec<Execute> {
    let answers = registry.execute_many(asks.clone()).await;
    asks.into_iter().zip(answers).filter_map(|(ask, answer)| again(ask, answer)).collect()
}

/// The same command again, where the log could not take it.
fn again(ask: Execute, answer: Result<Receipt, ExecuteError>) -> Option<Execute> {
    match answer {
        // The clock was put back meanwhile: its time has not come yet, after all.
        Ok(receipt)
            if receipt.appended == 0
                && matches!(ask.command, Command::Enqueue { .. })
                && matches!(receipt.task.status, Status::Scheduled | Status::Retrying) =>
        {
            Some(Execute { at: now(), ..ask })
        }
        Ok(_) | Err(ExecuteError::Rejected(_)) => None,
        Err(error) => {
            tracing::warn!(id = %ask.task, %error, "a command could not be recorded; trying again");
            Some(Execute { at: now(), ..ask })
        }
    }
}
