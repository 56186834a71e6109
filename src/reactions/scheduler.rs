//! Creates the tasks of schedules, each once. It holds no truth.
//!
//! What a schedule has created already is in the log. The id of a task follows from its schedule and its nominal time: if it
//! is created twice (after a crash, by two servers), the second finds the first there, which counts as done.
//!
//! On a cluster a schedule is in the share of one server. The others keep its due runs until their views show that a task was
//! created for them or for later ones, or until that server no longer lives and the share is theirs. They don't judge for
//! themselves that a run is undone: the server may have left it out, since its unique key was held.
//!
//! The work goes round in three parts. Only the first reads the views, for as long as it takes to copy some schedules:
//! 1. [`Agenda`] says which schedules are due;
//! 2. their nominal times are searched on the pool for blocking work, some steps at a time;
//! 3. the tasks of the times that were found are created, of many schedules side by side.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::sync::RwLock;
use tokio::task::{JoinError, spawn_blocking};
use uuid::Uuid;

use super::agenda::{self, Agenda, DueRuns, Found, Search};
use crate::dispatch::shares::Shares;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::Update;
use crate::store::{EventStore, LogEvent, Meta, Recorded, StreamName, StreamOf, Via, now};
use crate::streams::create::{Accepted, UniqueKeys, create};
use crate::streams::messages::ExecuteError;
use crate::streams::registry::Registry;
use crate::task::backoff::BackOff;
use crate::task::calendar::task_id;
use crate::task::event::Created;
use crate::task::schedule::ScheduleEvent;
use crate::task::{Rejection, Revision, Timestamp};
use crate::views::schedules::Scheduled;

/// The pauses after a failed write. Within 5 s of the return of a log all work goes on.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));
/// The longest that the timer sleeps: a clock that was changed is noticed by then.
const TIMER_MAX: Duration = Duration::from_mins(1);
/// Schedules that create tasks at the same time. As many may wait for that; the searches pause when there are more.
const AT_ONCE: usize = 200;
/// Calendar steps of one turn on the pool. A step takes some microseconds.
const STEPS: usize = 10_000;
/// How often this server looks again at the due runs of a schedule in another server's share.
const FOREIGN: Duration = Duration::from_secs(5);
/// Schedules that are copied out of the views under one lock.
const PAGE: usize = 500;

/// Whether tasks of schedules are being created; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Firing(Arc<RwLock<()>>);

impl Firing {
    /// Waits until every creation that is under way has ended. A schedule whose removal the views show creates nothing
    /// after this: each creation checks the views when it begins.
    pub async fn wait_until_idle(&self) {
        drop(self.0.write().await);
    }
}

/// The scheduler; see the module.
pub struct Scheduler {
    creator: Creator,
    agenda: Agenda,
    /// Searches that are not over; empty while they are on the pool.
    searches: VecDeque<Search>,
    is_searching: bool,
    /// Runs that were found and whose tasks are not being created yet.
    runs: VecDeque<DueRuns>,
    /// Schedules whose tasks are being created.
    creating: usize,
    back_off: BackOff,
    /// A creation has failed, and the pause after it is not over.
    is_paused: bool,
    timer: Option<SpawnHandle>,
    shares: Shares,
}

impl Scheduler {
    /// A scheduler that begins when its actor starts, with the schedules that the views show then. `firing` is what the
    /// removal of a schedule waits for.
    #[must_use]
    pub fn new(registry: Registry, read: ViewsReader, keys: UniqueKeys, firing: Firing) -> Self {
        Self {
            creator: Creator { registry, read, keys, firing, log: None },
            agenda: Agenda::default(),
            searches: VecDeque::new(),
            is_searching: false,
            runs: VecDeque::new(),
            creating: 0,
            back_off: BACK_OFF,
            is_paused: false,
            timer: None,
            shares: Shares::default(),
        }
    }

    /// The same for a server that shares the work with others.
    #[must_use]
    pub fn with_shares(self, shares: Shares) -> Self {
        Self { shares, ..self }
    }

    /// The same for a server of a cluster, whose views may be late: it looks into the log before it creates a task.
    #[must_use]
    pub fn on_cluster(mut self, log: EventStore) -> Self {
        self.creator.log = Some(log);
        self
    }

    /// Compares the agenda with the schedules that the views show, whatever events were missed.
    ///
    /// The views may move on between two pages: the events of that time are still to come, or the next call sees them.
    pub fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let mut in_force = HashSet::new();
        let mut last = None;
        loop {
            let views = self.creator.read.views();
            let before = in_force.len();
            for (id, scheduled) in views.schedules().page(last, PAGE) {
                self.agenda.insert(id, scheduled);
                in_force.insert(id);
                last = Some(id);
            }
            if in_force.len() < before + PAGE {
                break;
            }
        }
        self.agenda.retain(&in_force);
        self.advance(ctx);
    }

    /// Takes over from the views the schedules of these events.
    fn apply(&mut self, events: &[Arc<Recorded>]) {
        let is_schedule = |event: &&Arc<Recorded>| matches!(event.event, LogEvent::Schedule(_));
        let views = self.creator.read.views();
        for recorded in events.iter().filter(is_schedule) {
            let Some(StreamOf::Schedule(id)) = recorded.stream.of() else { continue };
            match views.schedules().get(id) {
                Some(scheduled) => self.agenda.insert(id, scheduled),
                None => self.agenda.remove(id),
            }
        }
    }

    /// Creates tasks, searches the schedules that are due, or sets the timer to the next deadline.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.is_paused {
            return;
        }
        while self.creating < AT_ONCE
            && let Some(runs) = self.runs.pop_front()
        {
            self.create(runs, ctx);
        }
        if self.is_searching {
            return;
        }
        let now = now();
        self.searches.extend(self.agenda.take_due(now));
        if self.searches.is_empty() || self.runs.len() >= AT_ONCE {
            self.reset_timer(now, ctx);
        } else {
            self.search(ctx);
        }
    }

    fn reset_timer(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let wait = self.agenda.next_deadline().map_or(TIMER_MAX, |next| next.since(now).min(TIMER_MAX));
        self.timer = Some(ctx.run_later(wait, Self::advance));
    }

    /// One turn of the searches on the pool.
    fn search(&mut self, ctx: &mut Context<Self>) {
        self.is_searching = true;
        let mut searches = std::mem::take(&mut self.searches);
        let turn = spawn_blocking(move || {
            let found = agenda::advance(&mut searches, STEPS);
            (searches, found)
        });
        ctx.spawn(turn.into_actor(self).map(Self::searched));
    }

    fn searched(turn: Result<(VecDeque<Search>, Vec<Found>), JoinError>, this: &mut Self, ctx: &mut Context<Self>) {
        this.is_searching = false;
        match turn {
            Ok((searches, found)) => {
                this.searches = searches;
                let due = found.into_iter().filter_map(|found| this.agenda.apply(found));
                let (own, foreign): (Vec<_>, Vec<_>) = due.partition(|runs| this.shares.is_own(runs.schedule));
                this.runs.extend(own);
                Self::postpone(foreign, ctx);
                this.advance(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "a search for due times broke off; all schedules are searched anew");
                ctx.run_later(this.back_off.failed(), |this, ctx| {
                    this.agenda = Agenda::default();
                    this.runs.clear();
                    this.catch_up(ctx);
                });
            }
        }
    }

    /// Leaves the runs to other servers for a while.
    fn postpone(foreign: Vec<DueRuns>, ctx: &mut Context<Self>) {
        if !foreign.is_empty() {
            ctx.run_later(FOREIGN, |this, ctx| this.review(foreign, ctx));
        }
    }

    /// Looks again at runs that were left to other servers.
    fn review(&mut self, foreign: Vec<DueRuns>, ctx: &mut Context<Self>) {
        let mut still_foreign = Vec::new();
        for runs in foreign {
            let passed = self.creator.read.views().schedules().get(runs.schedule).map(Scheduled::passed);
            if passed >= runs.times.last().copied() {
                self.agenda.complete(&runs);
            } else if passed.is_none() || self.shares.is_own(runs.schedule) {
                self.runs.push_back(runs);
            } else {
                still_foreign.push(runs);
            }
        }
        Self::postpone(still_foreign, ctx);
        self.advance(ctx);
    }

    fn create(&mut self, runs: DueRuns, ctx: &mut Context<Self>) {
        self.creating += 1;
        let creator = self.creator.clone();
        let creation = async move {
            let ended = creator.create_all(&runs).await;
            (runs, ended)
        };
        ctx.spawn(creation.into_actor(self).map(Self::created));
    }

    fn created((runs, ended): (DueRuns, Result<(), Interrupted>), this: &mut Self, ctx: &mut Context<Self>) {
        this.creating -= 1;
        match ended {
            Ok(()) => {
                this.back_off.succeeded();
                this.agenda.complete(&runs);
                this.advance(ctx);
            }
            Err(Interrupted { handled }) => {
                this.agenda.interrupt(&runs, handled);
                this.pause(ctx);
            }
        }
    }

    /// Begins nothing new for a while.
    fn pause(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_paused, true) {
            return;
        }
        ctx.run_later(self.back_off.failed(), |this, ctx| {
            this.is_paused = false;
            this.advance(ctx);
        });
    }
}

/// Creates tasks; clones do the same.
#[derive(Clone)]
struct Creator {
    registry: Registry,
    read: ViewsReader,
    keys: UniqueKeys,
    firing: Firing,
    /// The log that other servers write too.
    log: Option<EventStore>,
}

/// The log could not be written or read; a later try may do better.
struct Interrupted {
    /// The last run that has its task or was left out; none where there is none.
    handled: Option<Timestamp>,
}

impl Creator {
    /// Creates a task for each run, oldest first.
    async fn create_all(&self, runs: &DueRuns) -> Result<(), Interrupted> {
        let mut handled = None;
        for nominal in &runs.times {
            if let Err(error) = self.create_one(runs.schedule, *nominal).await {
                tracing::warn!(schedule = %runs.schedule, %error, "a task could not be created; trying again");
                return Err(Interrupted { handled });
            }
            handled = Some(*nominal);
        }
        Ok(())
    }

    async fn create_one(&self, schedule: Uuid, nominal: Timestamp) -> Result<(), ExecuteError> {
        let id = task_id(schedule, nominal);
        let lock = self.firing.0.read().await;
        let Some((created, meta)) = self.task_of(schedule) else { return Ok(()) };
        if self.is_removed(schedule).await? {
            return Ok(());
        }
        let answer = create(&self.registry, &self.read, &self.keys, created, id, now(), meta).await;
        drop(lock);
        match answer {
            // The next run must find that this one holds their unique key.
            Ok(Accepted::New(_, receipt)) => _ = self.read.wait_for_revision(id, receipt.revision).await,
            Ok(Accepted::Held(holder)) => {
                tracing::info!(%schedule, %nominal, %holder, "a run is left out: the former task is not final");
            }
            Ok(Accepted::Known(_)) | Err(ExecuteError::Rejected(Rejection::AlreadyExists)) => {}
            Err(error) if is_transient(&error) => return Err(error),
            Err(why) => tracing::error!(%schedule, %nominal, %why, "a schedule's task can't be created"),
        }
        Ok(())
    }

    /// Whether another server has removed the schedule, also where the views don't show it yet: this process may have been
    /// suspended.
    async fn is_removed(&self, schedule: Uuid) -> Result<bool, ExecuteError> {
        let Some(log) = &self.log else { return Ok(false) };
        let past = log.read_past(&StreamName::schedule(schedule), Revision(0)).await?;
        Ok(past.iter().any(|event| matches!(event.event, LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(_)))))
    }

    /// The task that the schedule creates, and the metadata of its first event; none where the schedule is not in force any
    /// more.
    fn task_of(&self, schedule: Uuid) -> Option<(Created, Meta)> {
        let views = self.read.views();
        let scheduled = views.schedules().get(schedule)?;
        let meta = Meta {
            actor: "system".to_owned(),
            via: Via::Scheduler,
            correlation_id: scheduled.correlation_id,
            causation_id: Some(scheduled.event),
            request_id: None,
        };
        Some((scheduled.created.task.task(schedule), meta))
    }
}

/// Whether the same creation may succeed later: where the log takes no more writes, it may in the next process.
const fn is_transient(error: &ExecuteError) -> bool {
    match error {
        ExecuteError::Rejected(_) => false,
        ExecuteError::Read(error) => error.is_transient(),
        ExecuteError::Append(_) | ExecuteError::Busy(_) => true,
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
    }
}

impl Scheduler {
    /// Whether the event may make this actor do something.
    #[must_use]
    pub fn concerns(recorded: &Recorded) -> bool {
        matches!(recorded.event, LogEvent::Schedule(_))
    }
}

impl Handler<Update> for Scheduler {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => {
                self.apply(&committed.events);
                self.advance(ctx);
            }
            Update::Missed => self.catch_up(ctx),
        }
    }
}

impl Handler<Stop> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
