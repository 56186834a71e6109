//! The dispatcher's timers: tasks become ready, the ladder climbs, attempts time out, leases expire, waits end.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};

use crate::store::now;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::event::TaskError;
use crate::task::{Command, Status, TaskId, Timestamp};
use crate::views::Timer;

use super::remote::WaitingTake;
use super::{Dispatcher, system_command};

/// Timers that are handled at once, before clients' commands get their turn.
const CHUNK: usize = 200;
/// The longest sleep of a timer on the wall clock: clocks are set, and machines sleep.
const SLEEP_MAX: Duration = Duration::from_mins(1);
/// A lease timer that fires so much too late means that this process was suspended: then no heartbeat could reach it either.
const SUSPENDED: Duration = Duration::from_secs(2);

/// The timers that are set.
#[derive(Default)]
pub(super) struct Timers {
    /// For the tasks.
    tasks: Option<(SpawnHandle, Timestamp)>,
    /// For the leases.
    leases: Option<(SpawnHandle, Instant)>,
    /// For the requests that wait.
    waits: Option<(SpawnHandle, Instant)>,
    /// The commands of due timers are under way.
    is_busy: bool,
}

impl Dispatcher {
    /// Sets the timer to the next task that time changes.
    pub(super) fn reset_task_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.capacity.pending().next_timer_deadline().filter(|_| !self.timers.is_busy);
        if self.timers.tasks.as_ref().map(|(_, at)| *at) == due {
            return;
        }
        if let Some((timer, _)) = self.timers.tasks.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = due {
            let sleep = due.since(now()).min(SLEEP_MAX);
            self.timers.tasks = Some((ctx.run_later(sleep, Self::run_due_timers), due));
        }
    }

    /// Sends the commands of due timers, in chunks: each is durable before the next.
    fn run_due_timers(&mut self, ctx: &mut Context<Self>) {
        self.timers.tasks = None;
        let due = self.capacity.pending().take_due_timers(now(), CHUNK);
        let due = self.postpone_foreign(due);
        if due.is_empty() {
            return self.reset_task_timer(ctx);
        }
        self.timers.is_busy = true;
        let commands = due.into_iter().map(|(task, timer)| system_command(task, self.command_of(task, timer)));
        let commands: Vec<Execute> = commands.collect();
        ctx.spawn(execute(self.registry.clone(), commands).into_actor(self).map(|left, this, ctx| {
            this.timers.is_busy = false;
            this.execute_later(left, ctx);
            this.reset_task_timer(ctx);
        }));
    }

    fn command_of(&self, task: TaskId, timer: Timer) -> Command {
        match timer {
            Timer::Enqueue(reason) => Command::Enqueue { reason },
            Timer::Climb(attempt, rung) => {
                let since = self.read.views().get(task).and_then(|row| row.cancel().map(|cancel| cancel.rung_at));
                let after = since.map_or(Duration::ZERO, |since| now().since(since)).as_millis();
                let reason = Some(format!("not stopped after {after} ms"));
                Command::Escalate { rung, reason, attempt: Some(attempt) }
            }
            Timer::TimeOut(attempt, bound) => {
                self.lose_attempt(task, attempt, "timed_out", format!("the attempt took longer than {bound} s"))
            }
        }
    }

    pub(super) fn lose_attempt(&self, task: TaskId, attempt: u32, code: &str, message: String) -> Command {
        let progress = self.read.views().live_progress(task).cloned();
        Command::LoseAttempt { attempt, error: TaskError { code: code.to_owned(), message }, progress }
    }

    /// Sets the timer to the lease that expires next. On a cluster the records of the servers say which do.
    pub(super) fn reset_lease_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.leases.next_deadline().filter(|_| self.cluster.is_none());
        // A timer that fires early finds nothing and is set again: most deadlines move on before they come.
        if let (Some((_, set)), Some(due)) = (&self.timers.leases, due)
            && *set <= due
        {
            return;
        }
        if let Some((timer, _)) = self.timers.leases.take() {
            ctx.cancel_future(timer);
        }
        if let Some(due) = due {
            let sleep = due.saturating_duration_since(Instant::now());
            self.timers.leases = Some((ctx.run_later(sleep, Self::expire_leases), due));
        }
    }

    fn expire_leases(&mut self, ctx: &mut Context<Self>) {
        let (set, now) = (self.timers.leases.take(), Instant::now());
        let late = set.map_or(Duration::ZERO, |(_, set)| now.saturating_duration_since(set));
        if late > SUSPENDED {
            tracing::warn!(?late, "this process was suspended; all leases get a fresh deadline");
            self.leases.renew_all(now);
        }
        let expired = self.leases.take_expired(now).into_iter().map(|(task, attempt)| {
            let message = "its worker has not been heard of for as long as its lease lives".to_owned();
            system_command(task, self.lose_attempt(task, attempt, "lease_expired", message))
        });
        let expired = expired.collect();
        self.execute_until_written(expired, ctx);
        self.reset_lease_timer(ctx);
    }

    /// Sets the timer for a wait that ends then. There is one timer for all waits, and it may fire early: an actor looks at
    /// each of its timers whenever it is woken, and many requests wait.
    pub(super) fn reset_wait_timer(&mut self, due: Instant, ctx: &mut Context<Self>) {
        if self.timers.waits.as_ref().is_some_and(|(_, set)| *set <= due) {
            return;
        }
        if let Some((timer, _)) = self.timers.waits.take() {
            ctx.cancel_future(timer);
        }
        let sleep = due.saturating_duration_since(Instant::now());
        self.timers.waits = Some((ctx.run_later(sleep, Self::end_waits), due));
    }

    fn end_waits(&mut self, ctx: &mut Context<Self>) {
        self.timers.waits = None;
        let now = Instant::now();
        self.waiting.extract_if(.., |waiting| waiting.until <= now).for_each(WaitingTake::answer_empty);
        self.leases.end_waits(now);
        let next = self.waiting.iter().map(|waiting| waiting.until).chain(self.leases.next_wait()).min();
        if let Some(next) = next {
            self.reset_wait_timer(next, ctx);
        }
    }

    /// Sends commands that must not be lost: what the log can't take now is sent again after a pause.
    pub(super) fn execute_until_written(&self, commands: Vec<Execute>, ctx: &mut Context<Self>) {
        if commands.is_empty() {
            return;
        }
        let sent = execute(self.registry.clone(), commands);
        ctx.spawn(sent.into_actor(self).map(|left, this, ctx| this.execute_later(left, ctx)));
    }

    fn execute_later(&mut self, commands: Vec<Execute>, ctx: &mut Context<Self>) {
        if commands.is_empty() {
            return self.back_off.reset();
        }
        ctx.run_later(self.back_off.next_pause(), move |this, ctx| this.execute_until_written(commands, ctx));
    }
}

/// Sends the commands; those that are to be sent again.
async fn execute(registry: Registry, commands: Vec<Execute>) -> Vec<Execute> {
    let answers = registry.execute_many(commands.clone()).await;
    commands.into_iter().zip(answers).filter_map(|(command, answer)| to_repeat(command, answer)).collect()
}

/// The same command again, where the log could not take it.
fn to_repeat(command: Execute, answer: Result<Receipt, ExecuteError>) -> Option<Execute> {
    match answer {
        // The clock was put back meanwhile: the time of the task has not come yet, after all.
        Ok(receipt)
            if receipt.appended == 0
                && matches!(command.command, Command::Enqueue { .. })
                && matches!(receipt.task.status, Status::Scheduled | Status::Retrying) =>
        {
            Some(Execute { at: now(), ..command })
        }
        Ok(_) | Err(ExecuteError::Rejected(_)) => None,
        Err(error) => {
            tracing::warn!(id = %command.task, %error, "a command could not be recorded; trying again");
            Some(Execute { at: now(), ..command })
        }
    }
}
