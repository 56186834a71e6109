//! The dispatcher's timers: when tasks become ready, cancels reach their next rung, attempts time out, leases expire, and waits
//! end.

use std::time::{Duration, Instant};

use actix::{ActorFutureExt, AsyncContext, Context, SpawnHandle, WrapFuture};

use crate::dispatch::task_timers::{Moment, TaskTimer, Timer};
use crate::store::now;
use crate::streams::messages::{Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::event::TaskError;
use crate::task::{Command, TaskId, Timestamp};

use super::{Dispatcher, system_command};

/// The maximum number of due timers that are handled in one batch. Clients' commands can be executed between two batches.
const DUE_MAX: usize = 200;
/// If a lease timer fires this much too late, this process was suspended. Then it could not receive heartbeats either.
const SUSPENDED_LATENESS: Duration = Duration::from_secs(2);

/// The timers that are set.
#[derive(Default)]
pub(super) struct Timers {
    /// The timer for tasks, and its time.
    tasks: Option<(SpawnHandle, Instant)>,
    /// The timer for leases, and its time.
    leases: Option<(SpawnHandle, Instant)>,
    /// The timer for requests that wait, and its time.
    waits: Option<(SpawnHandle, Instant)>,
    /// Whether commands of due timers were sent and are not answered yet.
    are_commands_under_way: bool,
}

impl Dispatcher {
    /// Sets the timer for tasks to the next time at which a task may need a command.
    pub(super) fn reset_task_timer(&mut self, ctx: &mut Context<Self>) {
        let now = moment();
        let next = self.task_timers.next_look(now).filter(|_| !self.timers.are_commands_under_way);
        // As with leases, a timer that is set to an earlier time stays.
        if let (Some((_, set)), Some(next)) = (&self.timers.tasks, next)
            && *set <= next
        {
            return;
        }
        if let Some((timer, _)) = self.timers.tasks.take() {
            ctx.cancel_future(timer);
        }
        if let Some(next) = next {
            let sleep = next.saturating_duration_since(now.steady);
            self.timers.tasks = Some((ctx.run_later(sleep, Self::run_due_timers), next));
        }
    }

    /// Sends the commands of due timers, in batches. A batch is sent when the one before is durable.
    fn run_due_timers(&mut self, ctx: &mut Context<Self>) {
        self.timers.tasks = None;
        let due = self.task_timers.take_due(moment(), DUE_MAX);
        let due = self.postpone_foreign(due);
        if due.is_empty() {
            return self.reset_task_timer(ctx);
        }
        self.timers.are_commands_under_way = true;
        let commands = due.into_iter().map(|(task, timer)| self.timer_command(task, &timer)).collect();
        ctx.spawn(execute_all(self.registry.clone(), commands).into_actor(self).map(|unwritten, this, ctx| {
            this.timers.are_commands_under_way = false;
            this.handle_unwritten(unwritten, ctx);
            this.reset_task_timer(ctx);
        }));
    }

    /// The command of a due timer. Its time is not before the timer's own: if the wall clock was set back meanwhile, the rules
    /// would say that the task's time has not come.
    fn timer_command(&self, task: TaskId, TaskTimer { timer, due, duration, .. }: &TaskTimer) -> Execute {
        let command = match *timer {
            Timer::Enqueue(reason) => Command::Enqueue { reason },
            Timer::Escalate { attempt, rung } => {
                let after = duration.unwrap_or_default().as_millis();
                let reason = Some(format!("the worker had not stopped {after} ms after the previous rung"));
                Command::Escalate { rung, reason, attempt: Some(attempt) }
            }
            Timer::TimeOut { attempt, limit_s } => {
                self.lose_attempt(task, attempt, "timed_out", format!("the attempt took longer than {limit_s} s"))
            }
        };
        not_before(*due, system_command(task, command))
    }

    /// The command that ends an attempt with this error, because its worker does not end it.
    pub(super) fn lose_attempt(&self, task: TaskId, attempt: u32, code: &str, message: String) -> Command {
        let progress = self.reader.views().live_progress(task).cloned();
        Command::LoseAttempt { attempt, error: TaskError { code: code.to_owned(), message }, progress }
    }

    /// Sets the timer for leases to the earliest deadline. On a cluster there is no such timer: leases expire by the servers'
    /// records.
    pub(super) fn reset_lease_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.leases.next_deadline().filter(|_| self.cluster.is_none());
        // A timer that is set to an earlier time stays. If it fires and no lease has expired, it is set again. This is cheap,
        // because heartbeats move most deadlines before they are reached.
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
        if late > SUSPENDED_LATENESS {
            tracing::warn!(?late, "this process was suspended; all leases get a fresh deadline");
            self.leases.renew_all(now);
        }
        let expired = self.leases.take_expired(now).into_iter().map(|(task, attempt)| {
            let message = "its worker sent no heartbeat during the lease time".to_owned();
            system_command(task, self.lose_attempt(task, attempt, "lease_expired", message))
        });
        let expired = expired.collect();
        self.execute_until_written(expired, ctx);
        self.reset_lease_timer(ctx);
    }

    /// Sets the timer for waits, if it is not set to an earlier time. All waits share one timer, which may fire before any wait
    /// ends. A timer for each wait would be slow: an actor polls all of its timers each time that it is woken.
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

    /// Ends the waits of requests for leases and of heartbeats that are over, and sets the timer to the next one.
    fn end_waits(&mut self, ctx: &mut Context<Self>) {
        self.timers.waits = None;
        let now = Instant::now();
        self.answer_ended_lease_requests();
        self.leases.end_heartbeat_waits(now);
        let next = self.waiting_lease_requests.iter().map(|waiting| waiting.until).chain(self.leases.next_wait()).min();
        if let Some(next) = next {
            self.reset_wait_timer(next, ctx);
        }
    }

    /// Sends commands that must not be lost. If one can't be written now, it is sent again after a pause, until it is written
    /// or refused.
    pub(super) fn execute_until_written(&self, commands: Vec<Execute>, ctx: &mut Context<Self>) {
        if commands.is_empty() {
            return;
        }
        let sent = execute_all(self.registry.clone(), commands);
        ctx.spawn(sent.into_actor(self).map(|unwritten, this, ctx| this.handle_unwritten(unwritten, ctx)));
    }

    /// Sends the commands that were not written again after a pause. If all were written, the next pause is the shortest one.
    fn handle_unwritten(&mut self, Unwritten { commands, error }: Unwritten, ctx: &mut Context<Self>) {
        if commands.is_empty() {
            self.unrecorded.ended(Instant::now());
            return self.back_off.reset();
        }
        if let (Some(error), Some(times)) = (error, self.unrecorded.occurred(Instant::now())) {
            tracing::warn!(commands = commands.len(), %error, times, "commands could not be recorded; trying again");
        }
        ctx.run_later(self.back_off.next_pause(), move |this, ctx| this.execute_until_written(commands, ctx));
    }
}

/// The commands that must be sent again, and the last error.
#[derive(Default)]
struct Unwritten {
    commands: Vec<Execute>,
    error: Option<ExecuteError>,
}

/// Sends the commands. Returns those that must be sent again.
async fn execute_all(registry: Registry, commands: Vec<Execute>) -> Unwritten {
    let answers = registry.execute_many(commands.clone()).await;
    let mut unwritten = Unwritten::default();
    for (command, answer) in commands.into_iter().zip(answers) {
        unwritten.add_if_unwritten(command, answer);
    }
    unwritten
}

impl Unwritten {
    /// Adds the command with a new time, if it must be sent again.
    fn add_if_unwritten(&mut self, command: Execute, answer: Result<Receipt, ExecuteError>) {
        match answer {
            Ok(_) | Err(ExecuteError::Rejected(_)) => {}
            Err(error) => {
                self.error = Some(error);
                self.commands.push(not_before(now(), command));
            }
        }
    }
}

/// The command with this time, unless its own is later.
fn not_before(at: Timestamp, command: Execute) -> Execute {
    Execute { at: command.at.max(at), ..command }
}

/// The wall clock and the monotonic clock now.
pub(super) fn moment() -> Moment {
    Moment { wall: now(), steady: Instant::now() }
}
