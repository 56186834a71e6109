//! When a recurring task is created: a cron expression in a time zone. It reads no clock; the caller passes `now`.
//!
//! The expression has five fields (minute, hour, day of month, month, day of week) as the Open Cron Pattern Specification
//! defines them: lists, ranges, steps, names of months and days, `L`, `W` and `#`. Where both days are given, one of them has
//! to match. The time zone rules are compiled in, so that every server of this release reads a log in the same way.
//!
//! When daylight saving time begins or ends:
//! - one fixed time a day (`30 2 * * *`) runs once each day: a time that is skipped runs at the first instant after the
//!   gap, a time that occurs twice runs the first time;
//! - a schedule that runs more often (a list, a range, a step or `*` in minute or hour) follows local time: a time that is
//!   skipped doesn't run, a time that occurs twice runs twice.

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
/// A run that is late by at most this much counts as on time: a short restart misses no run.
pub const LATE: Duration = Duration::from_mins(1);
/// How many missed runs of one schedule are made up for at most: the latest ones.
pub const CATCH_UP_MAX: usize = 1000;
/// The span that a search for due times walks first.
const FIRST_SPAN: Duration = Duration::from_hours(2);

/// A parsed cron expression and its time zone.
#[derive(Clone)]
pub struct Calendar {
    cron: Cron,
    zone: TimeZone,
    /// The IANA name, in its official spelling.
    zone_name: String,
}

/// Which nominal times have passed since a schedule last created a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The nominal times for which a task is created, oldest first.
    pub times: Vec<Timestamp>,
    /// The latest nominal time that has passed, whether or not it is among them.
    pub latest: Option<Timestamp>,
    /// The first nominal time that has not passed yet; none where there is none before the year 5000.
    pub next: Option<Timestamp>,
}

/// A search for what is due, in steps: each step finds one nominal time, so that the caller bounds the work between two
/// pauses.
///
/// It walks forward through a span that ends now, and starts again with a longer span until it has found enough: a year of
/// a schedule of every minute isn't walked for its last run.
#[derive(Clone, Debug)]
pub struct DueSearch {
    after: Timestamp,
    now: Timestamp,
    missed: Missed,
    span: Duration,
    /// The walk has come so far.
    at: Timestamp,
    /// The latest of the times that the walk has found; at most as many as are created.
    found: VecDeque<Timestamp>,
}

impl Calendar {
    /// Parses both.
    ///
    /// # Errors
    /// Which of the two is invalid, and why.
    pub fn parse(cron: &str, time_zone: &str) -> Result<Self, Vec<Invalid>> {
        let mut invalid = Vec::new();
        let parsed = parse_cron(cron).map_err(|detail| invalid.push(Invalid::new("/cron", detail))).ok();
        let zone = TimeZone::get(time_zone).ok();
        let named = zone.and_then(|zone| Some((zone.iana_name()?.to_owned(), zone)));
        if named.is_none() {
            invalid.push(Invalid::new("/time_zone", "no name of the IANA time zone database, like Europe/Zurich"));
        }
        match (parsed, named) {
            (Some(cron), Some((zone_name, zone))) => Ok(Self { cron, zone, zone_name }),
            (None, _) | (_, None) => Err(invalid),
        }
    }

    /// The IANA name of the time zone, in its official spelling.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.zone_name
    }

    /// The first nominal time after this instant; none if there is none before the year 5000.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = jiff::Timestamp::from_microsecond(after.as_micros()).ok()?.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        (next > after).then(|| Timestamp::from_micros(next.timestamp().as_microsecond()))
    }

    /// Which nominal times lie after `after` and not after `now`, and for which of them a task is created. None where the
    /// clock has been put back behind `after`: what was created is not created again.
    ///
    /// `run_once`: the latest, however late it is. `skip`: the latest, unless it is late by more than [`LATE`]. `run_all`:
    /// all of them, at most the latest [`CATCH_UP_MAX`].
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn due(&self, after: Timestamp, now: Timestamp, missed: Missed) -> Due {
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
    /// A search for what [`Calendar::due`] describes, before its first step.
    #[must_use]
    pub fn new(after: Timestamp, now: Timestamp, missed: Missed) -> Self {
        let mut search = Self { after, now, missed, span: FIRST_SPAN, at: after, found: VecDeque::new() };
        search.at = search.start();
        search
    }

    /// Takes at most `steps` steps and subtracts those that it took; what is due, once the search is over.
    pub fn advance(&mut self, calendar: &Calendar, steps: &mut usize) -> Option<Due> {
        while *steps > 0 {
            *steps -= 1;
            match calendar.next(self.at) {
                Some(time) if time <= self.now => self.push(time),
                next if self.is_over() => return Some(self.finish(next, calendar)),
                Some(_) | None => self.widen(),
            }
        }
        None
    }

    fn start(&self) -> Timestamp {
        Timestamp::from_micros(self.now.as_micros().saturating_sub_unsigned(micros(self.span))).max(self.after)
    }

    const fn limit(&self) -> usize {
        match self.missed {
            Missed::RunOnce | Missed::Skip => 1,
            Missed::RunAll => CATCH_UP_MAX,
        }
    }

    fn push(&mut self, time: Timestamp) {
        if self.found.len() == self.limit() {
            self.found.pop_front();
        }
        self.found.push_back(time);
        self.at = time;
    }

    fn is_over(&self) -> bool {
        self.found.len() == self.limit() || self.start() == self.after
    }

    fn widen(&mut self) {
        self.span = self.span.saturating_mul(8);
        self.found.clear();
        self.at = self.start();
    }

    /// A time zone that leaves out whole days can hide from `at` what comes after now.
    fn finish(&mut self, next: Option<Timestamp>, calendar: &Calendar) -> Due {
        let next = next.or_else(|| calendar.next(self.at.max(self.now)));
        let latest = self.found.back().copied();
        let mut times: Vec<_> = std::mem::take(&mut self.found).into();
        if self.missed == Missed::Skip {
            times.retain(|time| self.now.since(*time) <= LATE);
        }
        Due { times, latest, next }
    }
}

impl fmt::Debug for Calendar {
    /// The source text: the tables of the parsed expression would fill pages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({} {})", self.cron.as_str(), self.zone_name)
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn parse_cron(text: &str) -> Result<Cron, String> {
    let five = "five fields are needed: minute, hour, day of month, month, day of week";
    if !is_line(text, CRON_MAX) {
        return Err(format!("{five}; 1 to {CRON_MAX} bytes, one line"));
    }
    // The parser also accepts nicknames like `@daily`, and ignores an empty item between commas.
    if text.split_whitespace().count() != 5 {
        return Err(five.to_owned());
    }
    if text.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
        return Err("something is needed before and after each comma".to_owned());
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

/// The id of the task that a schedule creates for a nominal time. It depends on these two alone, so that servers and restarts
/// create the task once. It is a `UUIDv7` of that time whose other bits are a hash of both.
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

/// The nominal time in the id of a task that a schedule created; none in any other id.
#[must_use]
pub fn nominal_time(task: TaskId) -> Option<Timestamp> {
    let (seconds, nanos) = task.uuid().get_timestamp()?.to_unix();
    let micros = i64::try_from(seconds).ok()?.checked_mul(1_000_000)?.checked_add(i64::from(nanos / 1000))?;
    Some(Timestamp::from_micros(micros))
}
