//! Creates the tasks of schedules, each once: it holds no truth.
//!
//! What a schedule has created already is in the log; the id of the task of a nominal time follows from both, so that
//! creating it twice (after a crash, by two servers) finds it there, which counts as done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use futures_util::stream::{self, StreamExt};
use tokio::sync::RwLock;
use uuid::Uuid;

use crate::store::{LogEvent, Meta, Via, now};
use crate::task::calendar::{Calendar, task_id};
use crate::task::event::Created;
use crate::task::{Rejection, Timestamp};
use crate::views::schedules::Scheduled;

use crate::projection::projector::Committed;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::streams::create::{Accepted, UniqueKeys, create};
use crate::streams::messages::ExecuteError;
use crate::streams::registry::Registry;

/// After trouble with the log it tries again so much later.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest that the timer sleeps: a clock that was changed is noticed by then.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Schedules that create at the same time.
const AT_ONCE: usize = 200;

/// Tells when nothing is being created any more of what was looked up before.
#[derive(Clone, Debug, Default)]
pub struct Firing(Arc<RwLock<()>>);

impl Firing {
    /// Waits until whatever was found in force before now is created or left. A schedule whose removal the views show
    /// creates nothing after this.
    pub async fn settled(&self) {
        drop(self.0.write().await);
    }
}

/// What this process knows of a schedule beside the log.
#[derive(Debug)]
struct Plan {
    /// None where this release can't read it.
    calendar: Option<Calendar>,
    /// Nothing is left to do up to here. The log says so too, but for runs that were left out because of their unique key:
    /// after a restart these count as missed, and the first one made up for holds the key against the others.
    passed: Timestamp,
    /// The first nominal time after that.
    next: Option<Timestamp>,
}

/// Nominal times of one schedule, to create tasks for.
#[derive(Debug)]
struct Round {
    schedule: Uuid,
    times: Vec<Timestamp>,
    /// All up to here is done when these are.
    latest: Timestamp,
}

/// The scheduler; see the module.
pub struct Scheduler {
    registry: Registry,
    read: ViewsReader,
    keys: UniqueKeys,
    firing: Firing,
    plans: HashMap<Uuid, Plan>,
    timer: Option<SpawnHandle>,
    /// A round is under way.
    busy: bool,
}

impl Scheduler {
    /// Starts one; what a removal waits for comes with it.
    #[must_use]
    pub fn run(registry: Registry, read: ViewsReader, keys: UniqueKeys) -> (Addr<Self>, Firing) {
        let firing = Firing::default();
        let scheduler =
            Self { registry, read, keys, firing: firing.clone(), plans: HashMap::new(), timer: None, busy: false };
        (scheduler.start(), firing)
    }

    /// Creates what is due, and sets the timer to what comes next.
    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.busy {
            return;
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let now = now();
        self.plan(now);
        let rounds = self.due(now);
        if rounds.is_empty() {
            let next = self.plans.values().filter_map(|plan| plan.next).min();
            let wait = next.map_or(LOOK_AGAIN, |next| next.since(now).min(LOOK_AGAIN));
            self.timer = Some(ctx.run_later(wait, Self::look));
            return;
        }
        self.busy = true;
        let (registry, read) = (self.registry.clone(), self.read.clone());
        let (keys, firing) = (self.keys.clone(), self.firing.clone());
        let work = stream::iter(rounds)
            .map(move |round| fire(registry.clone(), read.clone(), keys.clone(), firing.clone(), round))
            .buffer_unordered(AT_ONCE)
            .collect::<Vec<_>>();
        ctx.spawn(work.into_actor(self).map(|done, this, ctx| {
            this.busy = false;
            let failed = done.iter().any(|(_, _, failed)| *failed);
            for (schedule, passed, _) in done {
                if let (Some(plan), Some(passed)) = (this.plans.get_mut(&schedule), passed) {
                    plan.pass(passed);
                }
            }
            if failed {
                this.timer = Some(ctx.run_later(PAUSE, Self::look));
            } else {
                this.look(ctx);
            }
        }));
    }

    /// Brings the plans in line with the schedules in force.
    fn plan(&mut self, now: Timestamp) {
        let views = self.read.views();
        self.plans.retain(|id, _| views.schedules().get(*id).is_some());
        for (id, scheduled) in views.schedules().iter() {
            let plan = self.plans.entry(id).or_insert_with(|| Plan::new(id, scheduled));
            plan.pass(scheduled.passed());
            // A time zone that leaves out whole days can hide what comes after them.
            if plan.next.is_none() {
                plan.next = plan.calendar.as_ref().and_then(|calendar| calendar.next(plan.passed.max(now)));
            }
        }
    }

    fn due(&mut self, now: Timestamp) -> Vec<Round> {
        let views = self.read.views();
        let mut rounds = Vec::new();
        for (id, plan) in &mut self.plans {
            let (Some(calendar), Some(scheduled)) = (&plan.calendar, views.schedules().get(*id)) else { continue };
            if plan.next.is_none_or(|next| next > now) {
                continue;
            }
            let due = calendar.due(plan.passed, now, scheduled.created.missed);
            let Some(latest) = due.latest else { continue };
            if due.times.is_empty() {
                plan.pass(latest);
            } else {
                rounds.push(Round { schedule: *id, times: due.times, latest });
            }
        }
        rounds
    }
}

impl Plan {
    fn new(id: Uuid, scheduled: &Scheduled) -> Self {
        let calendar = Calendar::parse(&scheduled.created.cron, &scheduled.created.time_zone);
        if let Err(why) = &calendar {
            tracing::error!(%id, ?why, "a schedule can't be read by this release; it creates nothing");
        }
        let (calendar, passed) = (calendar.ok(), scheduled.passed());
        let next = calendar.as_ref().and_then(|calendar| calendar.next(passed));
        Self { calendar, passed, next }
    }

    fn pass(&mut self, passed: Timestamp) {
        if passed > self.passed {
            self.passed = passed;
            self.next = self.calendar.as_ref().and_then(|calendar| calendar.next(passed));
        }
    }
}

/// Creates a task for each nominal time, oldest first. Answers how far the schedule has come, and whether the log stopped
/// it on the way.
async fn fire(
    registry: Registry,
    read: ViewsReader,
    keys: UniqueKeys,
    firing: Firing,
    round: Round,
) -> (Uuid, Option<Timestamp>, bool) {
    let mut passed = None;
    for nominal in round.times {
        let lock = firing.0.read().await;
        let Some((created, meta)) = task_of(&read, round.schedule) else {
            passed = Some(nominal);
            continue;
        };
        let id = task_id(round.schedule, nominal);
        let answer = create(&registry, &read, &keys, created, id, now(), meta).await;
        drop(lock);
        match answer {
            // The next run must find that this one holds their unique key.
            Ok(Accepted::New(_, receipt)) => _ = read.wait_for_revision(id, receipt.revision).await,
            Ok(Accepted::Held(holder)) => {
                tracing::info!(schedule = %round.schedule, %nominal, %holder, "a run is left out: the former task is not final");
            }
            Ok(Accepted::Known(_)) | Err(ExecuteError::Rejected(Rejection::AlreadyExists)) => {}
            Err(ExecuteError::Rejected(why)) => {
                tracing::error!(schedule = %round.schedule, %nominal, %why, "a schedule's task can't be created");
            }
            Err(error) => {
                tracing::warn!(schedule = %round.schedule, %error, "a task could not be created; trying again");
                return (round.schedule, passed, true);
            }
        }
        passed = Some(nominal);
    }
    (round.schedule, passed.max(Some(round.latest)), false)
}

/// The task to be created, and what the log keeps of why; none where the schedule is not in force any more.
fn task_of(read: &ViewsReader, schedule: Uuid) -> Option<(Created, Meta)> {
    let views = read.views();
    let scheduled = views.schedules().get(schedule)?;
    let created = scheduled.created.task.task(schedule);
    let meta = Meta {
        actor: "system".to_owned(),
        via: Via::Scheduler,
        correlation_id: scheduled.correlation_id,
        causation_id: Some(scheduled.event),
        request_id: None,
    };
    Some((created, meta))
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Handler<Committed> for Scheduler {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        if committed.events.iter().any(|recorded| matches!(recorded.event, LogEvent::Schedule(_))) {
            self.look(ctx);
        }
    }
}

impl Handler<Stop> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
