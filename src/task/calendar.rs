//! Computes the nominal times of a schedule: the times of a cron expression in a time zone. The module reads no clock; the
//! caller passes `now`.
//!
//! The expression has five fields (minute, hour, day of month, month, day of week) as the Open Cron Pattern Specification
//! defines them: lists, ranges, steps, names of months and days, `L`, `W` and `#`. If the day of month and the day of week
//! are both restricted, a day matches if one of them matches. The time zone rules are compiled into the program, so every
//! server of this release computes the same times.
//!
//! When daylight saving time begins, local times are skipped. When it ends, local times occur twice.
//! - A schedule with one fixed time of day (`30 2 * * *`) runs once each day. If its time is skipped, it runs at the first
//!   instant after the gap. If its time occurs twice, it runs at the first occurrence.
//! - A schedule that runs more often (with a list, a range, a step or `*` in minute or hour) follows local time. It doesn't
//!   run at a time that is skipped, and runs twice at a time that occurs twice.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use uuid::{Builder, Uuid};

use super::ids::TaskId;
use super::limits::{Invalid, is_line};
use super::schedule::Missed;
use super::time::Timestamp;

/// The longest cron expression, in bytes.
pub const CRON_MAX: usize = 256;
/// A run that is late by at most this duration doesn't count as missed. So no run counts as missed because of a restart that
/// takes less than a minute.
pub const LATENESS_MAX: Duration = Duration::from_mins(1);
/// The maximum number of missed runs for which a schedule creates tasks. If more runs were missed, it creates tasks for the
/// latest.
pub const MISSED_RUNS_MAX: usize = 1000;
/// How far back in time the first pass of a search begins.
const FIRST_SPAN: Duration = Duration::from_hours(2);

/// A parsed cron expression and its time zone.
#[derive(Clone)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// The IANA name of the time zone, in the upper and lower case of the IANA database.
    zone_name: String,
}

/// The nominal times of a schedule that are due, and the times around them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueTimes {
    /// The nominal times for which the schedule creates tasks, the oldest first.
    pub times: Vec<Timestamp>,
    /// The latest nominal time that has passed. With [`Missed::Skip`] it is not in `times` if it is late.
    pub latest: Option<Timestamp>,
    /// The first nominal time that has not passed yet; `None` if [`Calendar::next_after`] finds none.
    pub next: Option<Timestamp>,
}

/// A search for the nominal times after `after` and up to `now`. A nominal time is a time that the cron expression names. The
/// search selects the nominal times for which the schedule creates tasks:
///
/// - with [`Missed::RunOnce`] the latest;
/// - with [`Missed::Skip`] the latest, unless it is late by more than [`LATENESS_MAX`];
/// - with [`Missed::RunAll`] all, but at most the latest [`MISSED_RUNS_MAX`].
///
/// If the clock was set back, so that `now` lies before `after`, no time is due. So no task is created twice.
///
/// The caller makes the search in steps, to bound the work of one call. Each step computes one nominal time.
///
/// The search makes passes. The first pass begins [`FIRST_SPAN`] before `now` and goes forward in time to `now`. If it
/// doesn't find as many times as are needed, the next pass begins eight times further back, but not before `after`. So the
/// search for the last run of a schedule that runs every minute doesn't go through a whole year.
#[derive(Clone, Debug)]
pub struct DueSearch {
    after: Timestamp,
    now: Timestamp,
    missed: Missed,
    /// How far before `now` the range of the present pass begins.
    span: Duration,
    /// The time up to which the present pass has searched.
    searched_until: Timestamp,
    /// The latest times that the present pass has found, the oldest first; at most [`DueSearch::times_wanted`].
    found: VecDeque<Timestamp>,
}

impl Calendar {
    /// Parses a cron expression and the IANA name of a time zone.
    ///
    /// # Errors
    /// The invalid arguments, with the pointers `/cron` and `/time_zone`.
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let parsed = parse_cron(cron).map_err(|detail| invalid.push(Invalid::new("/cron", detail))).ok();
        let zone = TimeZone::get(time_zone).ok();
        let named = zone.and_then(|zone| Some((zone.iana_name()?.to_owned(), zone)));
        if named.is_none() {
            invalid.push(Invalid::new(
                "/time_zone",
                "not a name of the IANA time zone database, for example Europe/Zurich",
            ));
        }
        match (parsed, named) {
            (Some(cron), Some((zone_name, zone))) => Ok(Self { cron, zone, zone_name }),
            (None, _) | (_, None) => Err(invalid),
        }
    }

    /// The IANA name of the time zone, in the upper and lower case of the IANA database.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.zone_name
    }

    /// The first nominal time after this instant; `None` if there is none before the year 5000. It may also be `None` although
    /// there is a later time: some time zones leave out whole days, and the search finds no time across such a gap.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        (next > after).then(|| Timestamp::from_micros(next.timestamp().as_microsecond()))
    }

    /// Makes a whole [`DueSearch`] at once. Its doc says which nominal times it selects.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn due_times(&self, after: Timestamp, now: Timestamp, missed: Missed) -> DueTimes {
        let mut search = DueSearch::new(after, now, missed);
        loop {
            let mut steps = usize::MAX;
            if let Some(due) = search.advance(self, &mut steps) {
                return due;
            }
        }
    }
}

impl DueSearch {
    /// A search that has not made its first step.
    #[must_use]
    pub fn new(after: Timestamp, now: Timestamp, missed: Missed) -> Self {
        let (span, found) = (FIRST_SPAN, VecDeque::new());
        let mut search = Self { after, now, missed, span, searched_until: after, found };
        search.searched_until = search.pass_start();
        search
    }

    /// Makes at most `steps` steps, and subtracts the steps that it made from `steps`. Returns the result when the search is
    /// over, and `None` if it needs more steps.
    pub fn advance(&mut self, calendar: &Calendar, steps: &mut usize) -> Option<DueTimes> {
        while *steps > 0 {
            *steps -= 1;
            match calendar.next_after(self.searched_until) {
                Some(time) if time <= self.now => self.push(time),
                next if self.is_over() => return Some(self.finish(next, calendar)),
                Some(_) | None => self.begin_longer_pass(),
            }
        }
        None
    }

    /// The beginning of the range that the present pass searches: `span` before `now`, but not before `after`.
    fn pass_start(&self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros().saturating_sub_unsigned(micros(self.span))).max(self.after)
    }

    /// The maximum number of nominal times for which the schedule creates tasks.
    const fn times_wanted(&self) -> usize {
        match self.missed {
            Missed::RunOnce | Missed::Skip => 1,
            Missed::RunAll => MISSED_RUNS_MAX,
        }
    }

    fn push(&mut self, time: Timestamp) {
        if self.found.len() == self.times_wanted() {
            self.found.pop_front();
        }
        self.found.push_back(time);
        self.searched_until = time;
    }

    /// Whether the pass that has just reached `now` was the last one.
    fn is_over(&self) -> bool {
        self.found.len() == self.times_wanted() || self.pass_start() == self.after
    }

    fn begin_longer_pass(&mut self) {
        self.span = self.span.saturating_mul(8);
        self.found.clear();
        self.searched_until = self.pass_start();
    }

    /// The result. `next` is the first time after the last one found. If it is `None`, there may be a later time all the same (see
    /// [`Calendar::next_after`]). So this searches again from now.
    fn finish(&mut self, next: Option<Timestamp>, calendar: &Calendar) -> DueTimes {
        let next = next.or_else(|| calendar.next_after(self.searched_until.max(self.now)));
        let latest = self.found.back().copied();
        let mut times: Vec<_> = std::mem::take(&mut self.found).into();
        if self.missed == Missed::Skip {
            times.retain(|time| self.now.since(*time) <= LATENESS_MAX);
        }
        DueTimes { times, latest, next }
    }
}

impl fmt::Debug for Calendar {
    /// Writes the source text of the expression, because its parsed form is very long.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({} {})", self.cron.as_str(), self.zone_name)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    let five_fields = "five fields are needed: minute, hour, day of month, month, day of week";
    if !is_line(text, CRON_MAX) {
        return Err(format!("{five_fields}; 1 to {CRON_MAX} bytes, one line"));
    }
    // The parser would also accept nicknames like `@daily`, and would ignore an empty item between commas.
    if text.split_whitespace().count() != 5 {
        return Err(five_fields.to_owned());
    }
    if text.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
        return Err("an item of a comma-separated list is empty".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| match error {
        CronError::InvalidPattern(why) | CronError::IllegalCharacters(why) | CronError::ComponentError(why) => why,
        CronError::EmptyPattern
        | CronError::InvalidDate
        | CronError::InvalidTime
        | CronError::TimeSearchLimitExceeded => error.to_string(),
    })
}

/// The id of the task that a schedule creates for a nominal time. The id depends only on the schedule and the nominal time.
/// So if two servers, or one server before and after a restart, create the task, the second one fails with "already exists".
///
/// The id is a `UUIDv7` whose time is the nominal time. Its other bits are a hash of the schedule's id and the nominal time.
#[must_use]
pub fn task_id(schedule: Uuid, nominal: Timestamp) -> TaskId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(schedule.as_bytes());
    hasher.update(&nominal.as_micros().to_be_bytes());
    let mut bits = [0; 10];
    hasher.finalize_xof().fill(&mut bits);
    let millis = u64::try_from(nominal.as_micros() / 1000).unwrap_or(0);
    TaskId::from_uuid(Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
}

/// The nominal time of a task that a schedule created; its id contains it. The id must come from [`task_id`]: the time in
/// another UUIDv7 has a different meaning. `None` if the id contains no time.
#[must_use]
pub fn nominal_time(task: TaskId) -> Option<Timestamp> {
    let (seconds, nanos) = task.uuid().get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))?;
    Some(Timestamp::from_micros(micros))
}
