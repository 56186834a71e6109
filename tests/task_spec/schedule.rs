//! A schedule: it is created once and removed once; and its nominal times.

use std::collections::BTreeSet;
use std::time::Duration;

use taskbell::task::calendar::{Calendar, DueTimes, MISSED_RUNS_MAX, nominal_time, task_id};
use taskbell::task::schedule::{Missed, Schedule, ScheduleCommand, ScheduleCreated, ScheduleEvent, ScheduleRemoved};
use taskbell::task::{Decider, Rejection, Timestamp};
use uuid::Uuid;

use super::now;
use crate::support::task_template;

fn request() -> Box<ScheduleCreated> {
    let task = task_template();
    let (cron, time_zone) = ("0 3 * * *".into(), "UTC".into());
    Box::new(ScheduleCreated { cron, time_zone, missed: Missed::default(), task })
}

fn after<'a>(events: impl IntoIterator<Item = &'a ScheduleEvent>) -> Schedule {
    let mut schedule = Schedule::default();
    for event in events {
        schedule.evolve(event);
    }
    schedule
}

#[test]
fn a_schedule_is_created_once() {
    let created = ScheduleEvent::ScheduleCreated(request());
    let create = ScheduleCommand::Create(request());
    assert_eq!(after([]).decide(&create, now()), Ok(vec![created.clone()]));
    assert_eq!(after([&created]).decide(&create, now()), Err(Rejection::AlreadyExists));
    let removed = ScheduleEvent::ScheduleRemoved(ScheduleRemoved { reason: None });
    assert_eq!(after([&created, &removed]).decide(&create, now()), Err(Rejection::AlreadyExists));
}

#[test]
fn a_schedule_is_removed_once_and_keeps_the_reason() {
    let created = ScheduleEvent::ScheduleCreated(request());
    let remove = ScheduleCommand::Remove { reason: Some("moved".into()) };
    let removed = ScheduleEvent::ScheduleRemoved(ScheduleRemoved { reason: Some("moved".into()) });
    assert_eq!(after([]).decide(&remove, now()), Err(Rejection::NotFound));
    assert_eq!(after([&created]).decide(&remove, now()), Ok(vec![removed.clone()]));
    assert_eq!(after([&created, &removed]).decide(&remove, now()), Ok(vec![]));
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn calendar(cron: &str, zone: &str) -> Calendar {
    Calendar::parse(cron, zone).unwrap()
}

/// The next nominal times after `from`, to the minute.
fn next_times(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
    let calendar = calendar(cron, zone);
    let times = std::iter::successors(calendar.next_after(at(from)), |time| calendar.next_after(*time));
    times.take(count).map(|time| time.to_string()[5..16].to_owned()).collect()
}

#[test]
fn a_cron_expression_is_read_in_its_time_zone() {
    assert_eq!(next_times("0 9 * * 1-5", "UTC", "2026-11-20T10:00:00Z", 2), ["11-23T09:00", "11-24T09:00"]);
    assert_eq!(next_times("0 9 * * MON", "Europe/Zurich", "2026-11-20T10:00:00Z", 1), ["11-23T08:00"]);
    assert_eq!(next_times("*/20 8,9 L * *", "Asia/Kolkata", "2026-11-20T10:00:00Z", 2), ["11-30T02:30", "11-30T02:50"]);
    assert_eq!(
        next_times("0 0 1 * 0", "UTC", "2026-11-20T10:00:00Z", 3),
        ["11-22T00:00", "11-29T00:00", "12-01T00:00"]
    );
    assert_eq!(next_times("0 0 29 2 *", "UTC", "2026-11-20T10:00:00Z", 1), ["02-29T00:00"]);
}

#[test]
fn the_next_time_is_later_than_the_instant_to_the_microsecond() {
    let calendar = calendar("0 9 * * *", "UTC");
    assert_eq!(calendar.next_after(at("2026-11-20T08:59:59.999999Z")), Some(at("2026-11-20T09:00:00Z")));
    assert_eq!(calendar.next_after(at("2026-11-20T09:00:00Z")), Some(at("2026-11-21T09:00:00Z")));
    assert_eq!(calendar.next_after(at("9999-01-01T00:00:00Z")), None);
    assert_eq!(calendar.next_after(Timestamp::from_micros(i64::MAX)), None);
}

#[test]
fn one_fixed_time_a_day_runs_once_a_day_when_daylight_saving_time_begins_or_ends() {
    // Europe/Zurich has no 02:30 on 29 March 2026, and two on 25 October.
    let march = next_times("30 2 * * *", "Europe/Zurich", "2026-03-27T12:00:00Z", 3);
    assert_eq!(march, ["03-28T01:30", "03-29T01:00", "03-30T00:30"], "03:00 is the first time after the gap");
    let october = next_times("30 2 * * *", "Europe/Zurich", "2026-10-23T12:00:00Z", 3);
    assert_eq!(october, ["10-24T00:30", "10-25T00:30", "10-26T01:30"], "the first of the two");
}

#[test]
fn a_schedule_that_runs_more_often_follows_local_time() {
    let every = |from| next_times("*/30 * * * *", "Europe/Zurich", from, 4);
    assert_eq!(every("2026-03-29T00:00:00Z"), ["03-29T00:30", "03-29T01:00", "03-29T01:30", "03-29T02:00"]);
    assert_eq!(every("2026-10-25T00:00:00Z"), ["10-25T00:30", "10-25T01:00", "10-25T01:30", "10-25T02:00"]);
    let march = next_times("15,45 2 * * *", "Europe/Zurich", "2026-03-28T12:00:00Z", 2);
    assert_eq!(march, ["03-30T00:15", "03-30T00:45"], "a skipped time doesn't run");
    let october = next_times("15,45 2 * * *", "Europe/Zurich", "2026-10-24T12:00:00Z", 5);
    assert_eq!(october, ["10-25T00:15", "10-25T00:45", "10-25T01:15", "10-25T01:45", "10-26T01:15"]);
}

#[test]
fn the_next_time_does_not_depend_on_where_the_search_begins() {
    for zone in ["UTC", "Europe/Zurich", "America/Sao_Paulo", "Australia/Lord_Howe", "Africa/Casablanca"] {
        for cron in ["30 2 * * *", "0 0 * * *", "*/30 * * * *", "0,30 2 * * *", "15,45 1-3 * * *", "30 1 * * 0"] {
            let calendar = calendar(cron, zone);
            for (start, end) in
                [("2026-03-27", "2026-04-06"), ("2026-10-03", "2026-10-06"), ("2026-10-24", "2026-10-27")]
            {
                let (start, end) = (at(&format!("{start}T00:00:00Z")), at(&format!("{end}T00:00:00Z")));
                let walk = std::iter::successors(calendar.next_after(start), |time| calendar.next_after(*time));
                let walk: Vec<Timestamp> = walk.take_while(|time| *time <= end).collect();
                assert!(walk.is_sorted_by(|a, b| a < b));
                let mut from = start;
                for time in &walk {
                    while from < *time {
                        assert_eq!(calendar.next_after(from), Some(*time), "{cron} in {zone} from {from}");
                        from = from.plus(Duration::from_secs(17 * 60 + 3));
                    }
                }
            }
        }
    }
}

#[test]
fn an_invalid_expression_or_zone_is_rejected_with_its_pointer() {
    let long = format!("{} * * * *", vec!["1"; 200].join(","));
    for cron in [
        "",
        " ",
        "* * * *",
        "* * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "a b c d e",
        "\u{661} * * * *",
        "* * * * *\n",
        "* *\t* * *",
        "-1 * * * *",
        "1.5 * * * *",
        "99999999999999999999 * * * *",
        "* * * * FOO",
        ", * * * *",
        "1,,2 * * * *",
        "1, * * * *",
        &long,
    ] {
        let found = Calendar::parse(cron, "UTC").unwrap_err();
        assert_eq!(found.iter().map(|e| e.pointer.as_str()).collect::<Vec<_>>(), ["/cron"], "{cron:?}");
        assert!(!found[0].detail.is_empty());
    }
    for zone in ["", "Mars/Olympus", "+01:00", "GMT+1", "Etc/Unknown", "../etc/passwd", "Europe", "localtime", "Z"] {
        let found = Calendar::parse("* * * * *", zone).unwrap_err();
        assert_eq!(found.iter().map(|e| e.pointer.as_str()).collect::<Vec<_>>(), ["/time_zone"], "{zone:?}");
    }
    assert_eq!(Calendar::parse("", "").unwrap_err().len(), 2);
    assert_eq!(calendar("* * * * *", "europe/zurich").time_zone(), "Europe/Zurich");
}

#[test]
fn a_day_that_never_occurs_has_no_next_time() {
    for cron in ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
        assert_eq!(calendar(cron, "Europe/Zurich").next_after(now()), None);
    }
}

fn due(missed: Missed, passed: &str, now: &str) -> (Vec<String>, Option<String>) {
    let DueTimes { times, latest, .. } = calendar("0 * * * *", "UTC").due_times(at(passed), at(now), missed);
    let short = |time: Timestamp| time.to_string()[11..16].to_owned();
    (times.into_iter().map(short).collect(), latest.map(short))
}

fn no_times() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_run_on_time_is_due_under_every_policy() {
    for missed in [Missed::RunOnce, Missed::Skip, Missed::RunAll] {
        let found = due(missed, "2026-11-20T08:59:00Z", "2026-11-20T09:00:00Z");
        assert_eq!(found, (vec!["09:00".to_owned()], Some("09:00".to_owned())));
        let late = due(missed, "2026-11-20T08:00:00Z", "2026-11-20T09:01:00Z");
        assert_eq!(late.0, ["09:00"], "a minute late is on time");
        let early = due(missed, "2026-11-20T08:00:00Z", "2026-11-20T08:59:59.999999Z");
        assert_eq!(early, (no_times(), None));
        let done = due(missed, "2026-11-20T09:00:00Z", "2026-11-20T09:00:30Z");
        assert_eq!(done, (no_times(), None));
    }
}

#[test]
fn missed_runs_are_made_up_for_by_one_by_none_or_by_all() {
    let of = |missed| due(missed, "2026-11-20T05:30:00Z", "2026-11-20T09:20:00Z");
    assert_eq!(of(Missed::RunOnce).0, ["09:00"]);
    assert_eq!(of(Missed::Skip).0, no_times());
    assert_eq!(of(Missed::RunAll).0, ["06:00", "07:00", "08:00", "09:00"]);
    for missed in [Missed::RunOnce, Missed::Skip, Missed::RunAll] {
        assert_eq!(of(missed).1, Some("09:00".to_owned()), "none of them is due again");
    }
}

#[test]
fn at_most_the_latest_thousand_runs_are_made_up_for() {
    let every = calendar("* * * * *", "UTC");
    let (passed, now) = (at("2026-11-20T00:00:00Z"), at("2036-11-20T00:00:00Z"));
    let all = every.due_times(passed, now, Missed::RunAll);
    assert_eq!((all.times.len(), all.latest), (MISSED_RUNS_MAX, Some(now)));
    assert_eq!(all.times.first(), Some(&at("2036-11-19T07:21:00Z")));
    assert_eq!(every.due_times(passed, now, Missed::RunOnce).times, [now]);
    let rare = calendar("0 0 29 2 *", "UTC");
    assert_eq!(rare.due_times(passed, at("2029-11-20T00:00:00Z"), Missed::RunOnce).times, [at("2028-02-29T00:00:00Z")]);
    let oldest = rare.due_times(Timestamp::from_micros(i64::MIN), at("2029-11-20T00:00:00Z"), Missed::RunOnce);
    assert_eq!(oldest.times, [at("2028-02-29T00:00:00Z")]);
}

#[test]
fn nothing_is_due_where_the_clock_was_set_back() {
    for missed in [Missed::RunOnce, Missed::Skip, Missed::RunAll] {
        assert_eq!(due(missed, "2027-01-01T00:00:00Z", "2026-11-20T09:00:00Z"), (no_times(), None));
    }
}

#[test]
fn the_task_of_a_nominal_time_has_one_id_that_contains_the_time() {
    let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let nine = at("2026-11-20T09:00:00Z");
    let id = task_id(one, nine);
    assert_eq!(id, task_id(one, nine));
    assert_eq!((id.uuid().get_version_num(), id.uuid().get_variant()), (7, uuid::Variant::RFC4122));
    assert_eq!(nominal_time(id), Some(nine));
    let minutes = (0..500).map(|n| nine.plus(Duration::from_mins(n)));
    let ids: BTreeSet<_> = minutes.flat_map(|time| [task_id(one, time), task_id(other, time)]).collect();
    assert_eq!(ids.len(), 1000);
    assert_eq!(nominal_time(taskbell::task::TaskId::from_uuid(Uuid::nil())), None);
}
