//! The scheduler: it creates the tasks of schedules, and each task only once.
//!
//! The log contains the tasks that a schedule has created. The id of a task is computed from its schedule and its nominal
//! time. If a task is created twice (after a crash, or by two servers), the second creation finds that the task exists, and
//! counts as done.
//!
//! On a cluster each schedule belongs to the share of one server, which creates the tasks. The other servers also find the due
//! runs of the schedule. They keep these *foreign* runs until their views show a task for the last of these runs or for a
//! later run. If the server of the share doesn't live any more, the share goes to another server, which then creates the
//! tasks. A server must not create the task of a foreign run only because there is none: the server of the share may have left
//! the run out, because another task had its unique key.
//!
//! The work has three parts:
//! 1. [`Agenda`] finds the schedules that are due. To update it, the scheduler copies schedules from the views.
//! 2. The due times of these schedules are searched on the pool for blocking work, a bounded number of steps at a time.
//! 3. The tasks of the due times are created, for many schedules at the same time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use tokio::task::{JoinError, spawn_blocking};

use super::agenda::{Agenda, DueRuns, Search, SearchResult, advance_searches};
pub use super::creator::CreationLock;
use super::creator::{CreationFailed, Creator};
use crate::dispatch::shares::Shares;
use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::Update;
use crate::store::{EventStore, LogEvent, Recorded, StreamSubject, now};
use crate::streams::create::UniqueKeys;
use crate::streams::registry::Registry;
use crate::task::Timestamp;
use crate::task::backoff::BackOff;
use crate::views::schedules::ActiveSchedule;

/// The pauses after a failed write. They are short, so that the work goes on within 5 s after the log is available again.
const BACK_OFF: BackOff = BackOff::new(Duration::from_secs(1), Duration::from_secs(3));
/// The longest time until the timer fires, while there is a schedule: the wall clock may be set forward meanwhile.
const CLOCK_READ_INTERVAL: Duration = Duration::from_secs(1);
/// The time until the timer fires while there is no schedule.
const IDLE_INTERVAL: Duration = Duration::from_mins(1);
/// The maximum number of schedules that create tasks at the same time. If as many schedules wait to create tasks, no further
/// search begins.
const CREATING_MAX: usize = 200;
/// The maximum number of calendar steps of one call on the pool. A step takes some microseconds.
const STEPS_MAX: usize = 10_000;
/// The time between two checks of the runs that were left to other servers.
const FOREIGN_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The maximum number of schedules that are copied from the views under one lock.
const COPY_MAX: usize = 500;

/// The scheduler; see the module.
pub struct Scheduler {
    creator: Creator,
    agenda: Agenda,
    /// The searches that are not over. Empty while they run on the pool.
    searches: VecDeque<Search>,
    /// Whether searches run on the pool.
    is_searching: bool,
    /// Due runs whose creation has not begun.
    waiting_runs: VecDeque<DueRuns>,
    /// For how many schedules tasks are being created.
    creating: usize,
    back_off: BackOff,
    /// Whether a creation has failed and the pause after it is not over.
    is_paused: bool,
    /// Fires at the next deadline of the agenda.
    timer: Option<SpawnHandle>,
    shares: Shares,
}

impl Scheduler {
    /// A scheduler. When its actor starts, it copies the schedules from the views.
    #[must_use]
    pub fn new(registry: Registry, reader: ViewsReader, unique_keys: UniqueKeys, creation_lock: CreationLock) -> Self {
        Self {
            creator: Creator { registry, reader, unique_keys, creation_lock, shared_log: None },
            agenda: Agenda::default(),
            searches: VecDeque::new(),
            is_searching: false,
            waiting_runs: VecDeque::new(),
            creating: 0,
            back_off: BACK_OFF,
            is_paused: false,
            timer: None,
            shares: Shares::default(),
        }
    }

    /// The scheduler of a server on a cluster. `shares` says which schedules belong to this server.
    #[must_use]
    pub fn with_shares(self, shares: Shares) -> Self {
        Self { shares, ..self }
    }

    /// Makes the scheduler read from the shared log, before each creation, whether the schedule was removed. A server of a
    /// cluster needs this, because its views may lack the newest events.
    #[must_use]
    pub fn on_cluster(mut self, log: EventStore) -> Self {
        self.creator.shared_log = Some(log);
        self
    }

    /// Updates the whole agenda with the schedules that the views show. This needs no events, so it also works if this actor
    /// has missed events.
    ///
    /// The schedules are copied in pages, and the views may change between two pages. Then the events of that change reach
    /// this actor later, or the next call of this function copies the change.
    pub fn catch_up(&mut self, ctx: &mut Context<Self>) {
        let mut copied = HashSet::new();
        let mut last = None;
        loop {
            let views = self.creator.reader.views();
            let before = copied.len();
            for (id, schedule) in views.schedules().page(last, COPY_MAX) {
                self.agenda.insert(id, schedule);
                copied.insert(id);
                last = Some(id);
            }
            if copied.len() < before + COPY_MAX {
                break;
            }
        }
        self.agenda.retain(&copied);
        self.advance(ctx);
    }

    /// Updates the agenda with the schedules that these events have changed.
    fn apply(&mut self, events: &[Arc<Recorded>]) {
        let is_schedule = |event: &&Arc<Recorded>| matches!(event.event, LogEvent::Schedule(_));
        let views = self.creator.reader.views();
        for recorded in events.iter().filter(is_schedule) {
            let Some(StreamSubject::Schedule(id)) = recorded.stream.subject() else { continue };
            match views.schedules().get(id) {
                Some(schedule) => self.agenda.insert(id, schedule),
                None => self.agenda.remove(id),
            }
        }
    }

    /// Begins to create the tasks of waiting runs. Then begins the searches of the schedules that are due, or sets the timer to
    /// the next deadline.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if self.is_paused {
            return;
        }
        while self.creating < CREATING_MAX
            && let Some(runs) = self.waiting_runs.pop_front()
        {
            self.create_tasks(runs, ctx);
        }
        if self.is_searching {
            return;
        }
        let now = now();
        self.searches.extend(self.agenda.take_due(now));
        if self.searches.is_empty() || self.waiting_runs.len() >= CREATING_MAX {
            self.reset_timer(now, ctx);
        } else {
            self.search(ctx);
        }
    }

    fn reset_timer(&mut self, now: Timestamp, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let next = self.agenda.next_deadline();
        let wait = next.map_or(IDLE_INTERVAL, |next| next.since(now).min(CLOCK_READ_INTERVAL));
        self.timer = Some(ctx.run_later(wait, Self::advance));
    }

    /// Runs the searches on the pool for a bounded number of steps.
    fn search(&mut self, ctx: &mut Context<Self>) {
        self.is_searching = true;
        let mut searches = std::mem::take(&mut self.searches);
        let advanced = spawn_blocking(move || {
            let results = advance_searches(&mut searches, STEPS_MAX);
            (searches, results)
        });
        ctx.spawn(advanced.into_actor(self).map(Self::end_search));
    }

    fn end_search(
        advanced: Result<(VecDeque<Search>, Vec<SearchResult>), JoinError>,
        this: &mut Self,
        ctx: &mut Context<Self>,
    ) {
        this.is_searching = false;
        match advanced {
            Ok((searches, results)) => {
                this.searches = searches;
                let due = results.into_iter().filter_map(|result| this.agenda.store_result(result));
                let (own, foreign): (Vec<_>, Vec<_>) = due.partition(|runs| this.shares.is_in_own_share(runs.schedule));
                this.waiting_runs.extend(own);
                Self::check_foreign_later(foreign, ctx);
                this.advance(ctx);
            }
            Err(error) => {
                tracing::error!(%error, "a search for due times has failed; all schedules are searched again");
                ctx.run_later(this.back_off.next_pause(), |this, ctx| {
                    this.agenda = Agenda::default();
                    this.waiting_runs.clear();
                    this.catch_up(ctx);
                });
            }
        }
    }

    /// Leaves these runs to other servers until the next check.
    fn check_foreign_later(foreign: Vec<DueRuns>, ctx: &mut Context<Self>) {
        if !foreign.is_empty() {
            ctx.run_later(FOREIGN_CHECK_INTERVAL, |this, ctx| this.check_foreign(foreign, ctx));
        }
    }

    /// Checks runs that were left to other servers: whether the views show their tasks, and whether they belong to this server
    /// now.
    fn check_foreign(&mut self, foreign: Vec<DueRuns>, ctx: &mut Context<Self>) {
        let mut still_foreign = Vec::new();
        for runs in foreign {
            let views = self.creator.reader.views();
            let handled_until = views.schedules().get(runs.schedule).map(ActiveSchedule::handled_until);
            drop(views);
            if handled_until >= runs.times.last().copied() {
                self.agenda.complete(&runs);
            } else if handled_until.is_none() || self.shares.is_in_own_share(runs.schedule) {
                // If there is no `handled_until`, the schedule was removed. The creator finds no request for it, and ends these
                // runs without tasks.
                self.waiting_runs.push_back(runs);
            } else {
                still_foreign.push(runs);
            }
        }
        Self::check_foreign_later(still_foreign, ctx);
        self.advance(ctx);
    }

    fn create_tasks(&mut self, runs: DueRuns, ctx: &mut Context<Self>) {
        self.creating += 1;
        let creator = self.creator.clone();
        let creation = async move {
            let result = creator.create_all(&runs).await;
            (runs, result)
        };
        ctx.spawn(creation.into_actor(self).map(Self::end_creation));
    }

    fn end_creation((runs, result): (DueRuns, Result<(), CreationFailed>), this: &mut Self, ctx: &mut Context<Self>) {
        this.creating -= 1;
        match result {
            Ok(()) => {
                this.back_off.reset();
                this.agenda.complete(&runs);
                this.advance(ctx);
            }
            Err(CreationFailed { handled }) => {
                this.agenda.search_again(&runs, handled);
                this.pause(ctx);
            }
        }
    }

    /// Begins no creation and no search until the pause after a failure is over.
    fn pause(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_paused, true) {
            return;
        }
        ctx.run_later(self.back_off.next_pause(), |this, ctx| {
            this.is_paused = false;
            this.advance(ctx);
        });
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.catch_up(ctx);
    }
}

impl Scheduler {
    /// Whether this actor needs the event.
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
