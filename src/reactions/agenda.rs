//! Which schedules are in force, how far each of them has come, and when it is looked at next.
//!
//! It reads no clock and holds no lock: `now` is an argument, and what it needs of the views is copied. A schedule is in one
//! of three stages:
//! - it waits: its next nominal time stands in the queue of deadlines;
//! - its deadline has passed, and a [`Search`] for its due times is under way;
//! - the tasks of the times that the search found ([`DueRuns`]) are being created.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::task::Timestamp;
use crate::task::calendar::{Calendar, Due, DueSearch};
use crate::task::deadlines::DeadlineQueue;
use crate::task::schedule::ScheduleCreated;
use crate::views::schedules::Scheduled;

/// A schedule that has no next time is looked at again after so long: a time zone that leaves out whole days can hide what
/// comes after them.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The schedules in force; see the module.
#[derive(Debug, Default)]
pub struct Agenda {
    plans: HashMap<Uuid, Plan>,
    deadlines: DeadlineQueue<Timestamp, Uuid>,
}

#[derive(Debug)]
struct Plan {
    created: Arc<ScheduleCreated>,
    /// None before the first search, and where this release can't read it.
    calendar: Option<Arc<Calendar>>,
    /// Nothing is left to create up to here. The log says so too, but for runs that were left out because of their unique
    /// key: after a restart these count as missed, and the first that is caught up on holds the key against the others.
    handled: Timestamp,
}

/// A search for the due times of one schedule, in bounded steps. It owns all that it reads.
#[derive(Clone, Debug)]
pub struct Search {
    schedule: Uuid,
    created: Arc<ScheduleCreated>,
    calendar: Option<Arc<Calendar>>,
    due: DueSearch,
    now: Timestamp,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Found {
    schedule: Uuid,
    /// When the search began.
    now: Timestamp,
    /// None where this release can't read the schedule.
    due: Option<(Arc<Calendar>, Due)>,
}

/// Nominal times of one schedule, each of which gets a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRuns {
    /// The schedule.
    pub schedule: Uuid,
    /// The nominal times, oldest first; at least one.
    pub times: Vec<Timestamp>,
    /// When they all have their tasks, nothing is left to create up to here.
    latest: Timestamp,
    /// The schedule is looked at again then.
    deadline: Timestamp,
}

impl Agenda {
    /// Takes over a schedule as the views show it. A new one is searched at once; one that is known keeps its deadline.
    pub fn insert(&mut self, id: Uuid, scheduled: &Scheduled) {
        let handled = scheduled.passed();
        if let Some(plan) = self.plans.get_mut(&id) {
            plan.handled = plan.handled.max(handled);
            return;
        }
        self.plans.insert(id, Plan { created: Arc::clone(&scheduled.created), calendar: None, handled });
        self.deadlines.set(id, handled, ());
    }

    /// Removes a schedule. What a search for it finds later is ignored.
    pub fn remove(&mut self, id: Uuid) {
        self.plans.remove(&id);
        self.deadlines.remove(id);
    }

    /// Removes the schedules that are not among these.
    pub fn retain(&mut self, in_force: &HashSet<Uuid>) {
        let gone: Vec<Uuid> = self.plans.keys().filter(|id| !in_force.contains(id)).copied().collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Begins a search for each schedule whose deadline has passed, the earliest first. However long a search then waits for
    /// its turn, `now` decides whether a run is late.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Search> {
        let due = self.deadlines.take_due(now, usize::MAX);
        due.into_iter().filter_map(|(id, ())| Some(self.plans.get(&id)?.search(id, now))).collect()
    }

    /// When the next schedule is to be looked at.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next_deadline()
    }

    /// Notes what a search has found; the runs that need tasks, if there are any. The schedule gets its next deadline when
    /// these runs are [completed](Self::complete) or [interrupted](Self::interrupt).
    pub fn apply(&mut self, found: Found) -> Option<DueRuns> {
        let Found { schedule, now, due } = found;
        let plan = self.plans.get_mut(&schedule)?;
        let (calendar, Due { times, latest, next }) = due?;
        plan.calendar = Some(calendar);
        let deadline = next.unwrap_or_else(|| now.plus(LOOK_AGAIN));
        let latest = latest.unwrap_or(plan.handled);
        if times.is_empty() {
            self.wait(schedule, latest, deadline);
            return None;
        }
        Some(DueRuns { schedule, times, latest, deadline })
    }

    /// Each of these runs has its task, or was left out for good.
    pub fn complete(&mut self, runs: &DueRuns) {
        self.wait(runs.schedule, runs.latest, runs.deadline);
    }

    /// The creation stopped after the run of `handled`; the schedule is searched again at once.
    pub fn interrupt(&mut self, runs: &DueRuns, handled: Option<Timestamp>) {
        if let Some(plan) = self.plans.get(&runs.schedule) {
            let handled = handled.unwrap_or(plan.handled);
            self.wait(runs.schedule, handled, handled);
        }
    }

    fn wait(&mut self, id: Uuid, handled: Timestamp, deadline: Timestamp) {
        if let Some(plan) = self.plans.get_mut(&id) {
            plan.handled = plan.handled.max(handled);
            self.deadlines.set(id, deadline, ());
        }
    }
}

impl Plan {
    fn search(&self, schedule: Uuid, now: Timestamp) -> Search {
        let due = DueSearch::new(self.handled, now, self.created.missed);
        Search { schedule, created: Arc::clone(&self.created), calendar: self.calendar.clone(), due, now }
    }
}

impl Search {
    /// Takes at most `steps` calendar steps and subtracts those that it took; what it has found, once it is over.
    fn advance(&mut self, steps: &mut usize) -> Option<Found> {
        let Some(calendar) = self.calendar() else {
            return Some(Found { schedule: self.schedule, now: self.now, due: None });
        };
        let due = self.due.advance(&calendar, steps)?;
        Some(Found { schedule: self.schedule, now: self.now, due: Some((calendar, due)) })
    }

    fn calendar(&mut self) -> Option<Arc<Calendar>> {
        if self.calendar.is_none() {
            let parsed = Calendar::parse(&self.created.cron, &self.created.time_zone);
            let report = |why: &_| {
                tracing::error!(id = %self.schedule, ?why, "a schedule can't be read by this release; it creates nothing");
            };
            self.calendar = parsed.inspect_err(report).ok().map(Arc::new);
        }
        self.calendar.clone()
    }
}

/// Goes on with the searches, in their order, until `steps` calendar steps are taken; what those that are over have found.
/// They are removed from `searches`. It blocks for as long as the steps take.
pub fn advance(searches: &mut VecDeque<Search>, mut steps: usize) -> Vec<Found> {
    let mut found = Vec::new();
    while let Some(search) = searches.front_mut()
        && let Some(over) = search.advance(&mut steps)
    {
        found.push(over);
        searches.pop_front();
    }
    found
}
