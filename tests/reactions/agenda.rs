//! The agenda of the scheduler. The test chooses the time.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use taskbell::projection::reader::split_views;
use taskbell::reactions::agenda::{Agenda, DueRuns, Search, SearchResult, advance_searches};
use taskbell::store::{Append, EventStore, Expected, Meta, NewEvent, StreamName, Via};
use taskbell::task::calendar::{Calendar, DueSearch, MISSED_RUNS_MAX};
use taskbell::task::schedule::{Missed, ScheduleCreated, ScheduleEvent};
use taskbell::task::{Position, Timestamp};
use taskbell::views::Views;
use taskbell::views::schedules::ActiveSchedule;
use uuid::Uuid;

use crate::support::task_template;

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn created(cron: &str, missed: Missed) -> ScheduleCreated {
    ScheduleCreated { cron: cron.into(), time_zone: "UTC".into(), missed, task: task_template() }
}

fn scheduled(cron: &str, missed: Missed, created_at: Timestamp) -> ActiveSchedule {
    ActiveSchedule {
        created: Arc::new(created(cron, missed)),
        created_at,
        created_by: "ann".into(),
        event_id: Uuid::nil(),
        correlation_id: Uuid::nil(),
        last_nominal: None,
    }
}

const ID: Uuid = Uuid::from_u128(1);

/// An agenda with one hourly schedule that was created at 08:30 and creates all missed runs.
fn hourly() -> Agenda {
    let mut agenda = Agenda::default();
    agenda.insert(ID, &scheduled("0 * * * *", Missed::RunAll, at("20T08:30:00")));
    agenda
}

/// Searches the due runs at this time and applies the results to the agenda.
fn due(agenda: &mut Agenda, now: &str) -> Vec<DueRuns> {
    let mut searches = agenda.take_due(at(now)).into();
    let found = advance_searches(&mut searches, usize::MAX);
    assert!(searches.is_empty());
    found.into_iter().filter_map(|found| agenda.apply(found)).collect()
}

#[track_caller]
fn one(runs: Vec<DueRuns>) -> DueRuns {
    let [runs] = runs.try_into().unwrap();
    runs
}

#[test]
fn a_schedule_waits_for_its_next_time_once_it_was_searched() {
    let mut agenda = hourly();
    assert_eq!(due(&mut agenda, "20T08:31:00"), []);
    assert_eq!(agenda.next_deadline(), Some(at("20T09:00:00")));
    assert!(agenda.take_due(at("20T08:59:59.999999")).is_empty());
    assert_eq!(one(due(&mut agenda, "20T09:00:00")).times, [at("20T09:00:00")]);
}

#[test]
fn a_schedule_is_not_searched_again_before_its_runs_have_their_tasks() {
    let mut agenda = hourly();
    let runs = one(due(&mut agenda, "20T10:10:00"));
    assert_eq!(runs.times, [at("20T09:00:00"), at("20T10:00:00")]);
    assert_eq!(agenda.next_deadline(), None);
    agenda.insert(ID, &scheduled("0 * * * *", Missed::RunAll, at("20T08:30:00")));
    assert_eq!(due(&mut agenda, "20T11:10:00"), [], "the views showed it once more meanwhile");
    agenda.complete(&runs);
    assert_eq!(agenda.next_deadline(), Some(at("20T11:00:00")));
    assert_eq!(one(due(&mut agenda, "20T11:10:00")).times, [at("20T11:00:00")]);
}

#[test]
fn a_creation_that_was_interrupted_goes_on_after_the_last_run_that_has_its_task() {
    let mut agenda = hourly();
    let runs = one(due(&mut agenda, "20T11:10:00"));
    agenda.interrupt(&runs, None);
    let again = one(due(&mut agenda, "20T11:10:01"));
    assert_eq!(again.times, runs.times);
    agenda.interrupt(&again, Some(again.times[0]));
    assert_eq!(one(due(&mut agenda, "20T11:10:02")).times, runs.times[1..]);
}

#[test]
fn the_due_runs_of_a_schedule_that_was_removed_meanwhile_are_ignored() {
    let mut agenda = hourly();
    let mut searches: VecDeque<Search> = agenda.take_due(at("20T09:10:00")).into();
    agenda.remove(ID);
    let found: Vec<SearchResult> = advance_searches(&mut searches, usize::MAX);
    assert_eq!(found.into_iter().filter_map(|found| agenda.apply(found)).collect::<Vec<_>>(), []);
    assert_eq!(agenda.next_deadline(), None);

    let mut agenda = hourly();
    let runs = one(due(&mut agenda, "20T09:10:00"));
    agenda.retain(&HashSet::new());
    agenda.complete(&runs);
    agenda.interrupt(&runs, None);
    assert_eq!(agenda.next_deadline(), None);
}

#[test]
fn a_schedule_without_a_next_time_is_looked_at_again_a_minute_later() {
    let mut agenda = Agenda::default();
    agenda.insert(ID, &scheduled("0 0 30 2 *", Missed::RunAll, at("20T08:30:00")));
    assert_eq!(due(&mut agenda, "20T09:00:00"), []);
    assert_eq!(agenda.next_deadline(), Some(at("20T09:01:00")));
}

#[test]
fn a_schedule_that_cannot_be_read_is_searched_once() {
    let mut agenda = hourly();
    agenda.insert(Uuid::from_u128(2), &scheduled("no cron", Missed::RunAll, at("20T08:00:00")));
    assert_eq!(due(&mut agenda, "20T09:10:00").len(), 1, "the other one");
    assert_eq!(agenda.next_deadline(), None);
}

#[test]
fn of_many_due_schedules_the_earliest_come_first() {
    let mut agenda = Agenda::default();
    for n in 0..10 {
        let since = at("20T08:00:00").plus(Duration::from_secs(10 - n));
        agenda.insert(Uuid::from_u128(n.into()), &scheduled("0 * * * *", Missed::RunAll, since));
    }
    let ids: Vec<u128> = due(&mut agenda, "20T09:00:00").iter().map(|runs| runs.schedule.as_u128()).collect();
    assert_eq!(ids, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_run_that_was_on_time_is_not_skipped_because_its_search_waited() {
    let mut agenda = Agenda::default();
    agenda.insert(ID, &scheduled("0 * * * *", Missed::Skip, at("20T08:30:00")));
    let mut searches: VecDeque<Search> = agenda.take_due(at("20T09:00:30")).into();
    assert!(advance_searches(&mut searches, 0).is_empty(), "no turn for a long time");
    let found = advance_searches(&mut searches, usize::MAX);
    let runs = found.into_iter().filter_map(|found| agenda.apply(found)).collect();
    assert_eq!(one(runs).times, [at("20T09:00:00")]);
}

#[test]
fn a_search_in_steps_finds_the_same_runs_as_a_search_in_one_step() {
    let (after, now) = (at("01T00:00:00"), at("20T09:10:30"));
    for cron in ["* * * * *", "0 * * * *", "0 0 1 1 *", "0 0 30 2 *"] {
        for missed in [Missed::RunOnce, Missed::Skip, Missed::RunAll] {
            let calendar = Calendar::parse(cron, "UTC").unwrap();
            let whole = calendar.due_times(after, now, missed);
            for steps in [1, 7, 1000] {
                let mut search = DueSearch::new(after, now, missed);
                let found =
                    std::iter::repeat_with(|| search.advance(&calendar, &mut steps.clone())).find_map(|due| due);
                assert_eq!(found.as_ref(), Some(&whole), "{cron} {missed:?} {steps}");
            }
        }
    }
}

/// The views of a log with this many schedules for every minute, created a day before `now`.
fn views_with(schedules: usize, now: Timestamp) -> Views {
    let store = EventStore::memory();
    let time = Timestamp::from_micros(now.as_micros() - 24 * 3600 * 1_000_000);
    let append = |n: usize| {
        let meta = Meta {
            actor: "ann".into(),
            via: Via::Http,
            correlation_id: Uuid::nil(),
            causation_id: None,
            request_id: None,
        };
        let id = Uuid::from_u128(n as u128);
        let event = ScheduleEvent::ScheduleCreated(Box::new(created("* * * * *", Missed::RunAll))).into();
        let events = vec![NewEvent { id, time, meta, event }];
        Append { stream: StreamName::schedule(id), expected: Expected::NoStream, events }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.append_many((0..schedules).map(append).collect()));
    let mut views = Views::default();
    for recorded in runtime.block_on(store.read_all(Position(0), schedules)).unwrap() {
        views.apply(&recorded);
    }
    views
}

#[test]
fn a_thousand_schedules_that_missed_a_day_are_searched_in_bounded_turns_without_the_lock_of_the_views() {
    const STEPS: usize = 10_000;
    let now = at("20T09:10:30");
    let (write, read) = split_views(views_with(1000, now));
    let mut agenda = Agenda::default();
    for (id, scheduled) in read.views().schedules().iter() {
        agenda.insert(id, scheduled);
    }
    let mut searches: VecDeque<Search> = agenda.take_due(now).into();
    assert_eq!(searches.len(), 1000);
    // While this guard exists, a search that needed the lock would wait for ever.
    let projector_writes = write.write();
    let (mut turns, mut runs) = (0, Vec::new());
    while runs.len() < 20 {
        let found = advance_searches(&mut searches, STEPS);
        turns += 1;
        let found: Vec<_> = found.into_iter().filter_map(|found| agenda.apply(found)).collect();
        assert!(found.iter().map(|runs| runs.times.len()).sum::<usize>() <= STEPS, "a step finds one time at most");
        runs.extend(found);
    }
    drop(projector_writes);
    assert!(runs.iter().all(|runs| runs.times.len() == MISSED_RUNS_MAX));
    assert!(turns >= 20 * MISSED_RUNS_MAX / STEPS, "{turns} turns");
    assert_eq!(searches.len(), 1000 - runs.len(), "the others wait for the next turns");
}

#[test]
fn a_search_owns_all_that_it_reads() {
    fn can_run_on_any_thread<T: Send + 'static>() {}
    can_run_on_any_thread::<Search>();
    can_run_on_any_thread::<SearchResult>();
}
