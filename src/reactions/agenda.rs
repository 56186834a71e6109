//! The agenda of the scheduler: the schedules, up to which time each of them has created its tasks, and when each of them is
//! due next.
//!
//! The module reads no clock and takes no lock: the caller passes `now` and copies of the schedules in the views. A schedule
//! is in one of three stages:
//! - it waits for its next nominal time, which is its deadline;
//! - its deadline has passed, and a [`Search`] for its due times is under way;
//! - the tasks of the times that the search found ([`DueRuns`]) are being created.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::task::Timestamp;
use crate::task::calendar::{Calendar, DueSearch, DueTimes};
use crate::task::deadlines::DeadlineQueue;
use crate::task::schedule::ScheduleCreated;
use crate::views::schedules::ActiveSchedule;

/// If a search finds no next time, the schedule is searched again after this long. Some time zones leave out whole days, and a
/// search may not find the times after such a gap.
const SEARCH_AGAIN_AFTER: Duration = Duration::from_mins(1);

/// The schedules; see the module.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: HashMap<Uuid, Entry>,
    deadlines: DeadlineQueue<Timestamp, Uuid>,
}

/// A schedule in the agenda.
#[derive(Debug)]
struct Entry {
    created: Arc<ScheduleCreated>,
    /// `None` before the first search, and if this release can't parse the schedule's expression or time zone.
    calendar: Option<Arc<Calendar>>,
    /// The schedule has created its tasks up to this time, or has left them out.
    ///
    /// The log contains no event for a run that was left out because of its unique key. So after a restart such runs count as
    /// missed. The first of them that gets a task then has the unique key, and the others are left out again.
    handled_until: Timestamp,
}

/// A search for the due times of one schedule, in bounded steps. It owns all its data, so it can run on another thread.
#[derive(Clone, Debug)]
pub struct Search {
    schedule: Uuid,
    created: Arc<ScheduleCreated>,
    calendar: Option<Arc<Calendar>>,
    due: DueSearch,
    now: Timestamp,
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct SearchResult {
    schedule: Uuid,
    /// When the search began.
    now: Timestamp,
    /// `None` if this release can't parse the schedule's expression or time zone.
    due: Option<(Arc<Calendar>, DueTimes)>,
}

/// The nominal times of one schedule that are due. The scheduler creates a task for each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRuns {
    /// The schedule.
    pub schedule: Uuid,
    /// The nominal times, the oldest first. There is at least one.
    pub times: Vec<Timestamp>,
    /// When all these tasks are created, the schedule is handled until this time.
    latest: Timestamp,
    /// The next deadline of the schedule.
    deadline: Timestamp,
}

impl Agenda {
    /// Adds a schedule, or updates it with its state in the views. The deadline of a new schedule has passed, so that it is
    /// searched at once. A known schedule keeps its deadline.
    pub fn insert(&mut self, id: Uuid, schedule: &ActiveSchedule) {
        let handled_until = schedule.handled_until();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.handled_until = entry.handled_until.max(handled_until);
            return;
        }
        self.entries.insert(id, Entry { created: Arc::clone(&schedule.created), calendar: None, handled_until });
        self.deadlines.set(id, handled_until, ());
    }

    /// Removes a schedule. If a search for it is under way, its result will be ignored.
    pub fn remove(&mut self, id: Uuid) {
        self.entries.remove(&id);
        self.deadlines.remove(id);
    }

    /// Removes all schedules except these.
    pub fn retain(&mut self, schedules: &HashSet<Uuid>) {
        let removed: Vec<Uuid> = self.entries.keys().filter(|id| !schedules.contains(id)).copied().collect();
        for id in removed {
            self.remove(id);
        }
    }

    /// Begins a search for each schedule whose deadline has passed, the earliest deadline first. The search uses this `now`,
    /// even if it runs later. So a run that is on time now doesn't become late while the search waits.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<Search> {
        let due = self.deadlines.take_due(now, usize::MAX);
        due.into_iter().filter_map(|(id, ())| Some(self.entries.get(&id)?.search(id, now))).collect()
    }

    /// The earliest deadline of a schedule.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.next_deadline()
    }

    /// Stores the result of a search. Returns the runs for which tasks must be created, if there are any. Then the schedule has
    /// no deadline until these runs are [completed](Self::complete) or [interrupted](Self::interrupt).
    pub fn apply(&mut self, result: SearchResult) -> Option<DueRuns> {
        let SearchResult { schedule, now, due } = result;
        let entry = self.entries.get_mut(&schedule)?;
        let (calendar, DueTimes { times, latest, next }) = due?;
        entry.calendar = Some(calendar);
        let deadline = next.unwrap_or_else(|| now.plus(SEARCH_AGAIN_AFTER));
        let latest = latest.unwrap_or(entry.handled_until);
        if times.is_empty() {
            self.set_handled(schedule, latest, deadline);
            return None;
        }
        Some(DueRuns { schedule, times, latest, deadline })
    }

    /// Each of these runs has its task or was left out.
    pub fn complete(&mut self, runs: &DueRuns) {
        self.set_handled(runs.schedule, runs.latest, runs.deadline);
    }

    /// The creation of tasks has failed. `handled` is the last run that has its task or was left out. The schedule is searched
    /// again at once.
    pub fn interrupt(&mut self, runs: &DueRuns, handled: Option<Timestamp>) {
        if let Some(entry) = self.entries.get(&runs.schedule) {
            let handled_until = handled.unwrap_or(entry.handled_until);
            self.set_handled(runs.schedule, handled_until, handled_until);
        }
    }

    fn set_handled(&mut self, id: Uuid, handled_until: Timestamp, deadline: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.handled_until = entry.handled_until.max(handled_until);
            self.deadlines.set(id, deadline, ());
        }
    }
}

impl Entry {
    fn search(&self, schedule: Uuid, now: Timestamp) -> Search {
        let due = DueSearch::new(self.handled_until, now, self.created.missed);
        Search { schedule, created: Arc::clone(&self.created), calendar: self.calendar.clone(), due, now }
    }
}

impl Search {
    /// Makes at most `steps` calendar steps, and subtracts the steps that it made from `steps`. Returns the result when the
    /// search is over, and `None` if it needs more steps.
    fn advance(&mut self, steps: &mut usize) -> Option<SearchResult> {
        let Some(calendar) = self.calendar() else {
            return Some(SearchResult { schedule: self.schedule, now: self.now, due: None });
        };
        let due = self.due.advance(&calendar, steps)?;
        Some(SearchResult { schedule: self.schedule, now: self.now, due: Some((calendar, due)) })
    }

    /// The calendar of the schedule, which the first search of the schedule parses. `None` if it can't be parsed.
    fn calendar(&mut self) -> Option<Arc<Calendar>> {
        if self.calendar.is_none() {
            let parsed = Calendar::parse(&self.created.cron, &self.created.time_zone);
            let report = |why: &_| {
                tracing::error!(id = %self.schedule, ?why, "this release can't parse a schedule; it creates no tasks");
            };
            self.calendar = parsed.inspect_err(report).ok().map(Arc::new);
        }
        self.calendar.clone()
    }
}

/// Continues the searches in their order, until they have made `steps` calendar steps together. Removes the searches that are
/// over from `searches`, and returns their results. Blocks for the time that the steps take.
pub fn advance_searches(searches: &mut VecDeque<Search>, mut steps: usize) -> Vec<SearchResult> {
    let mut results = Vec::new();
    while let Some(search) = searches.front_mut()
        && let Some(result) = search.advance(&mut steps)
    {
        results.push(result);
        searches.pop_front();
    }
    results
}
