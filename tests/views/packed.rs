//! Packed rows: the views are the same, whether and whenever rows are packed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::to_value;
use taskbell::task::event::{CancelLadder, Progress, QueuedReason, TaskError};
use taskbell::task::{Command, Status, TaskId};
use taskbell::views::{Views, WaitingFor};

use super::history::{Created, Log, cancel, plain, random_log, start, succeed};
use super::laws::{any_filter, check_counters, check_pages};
use super::oracle::Oracle;
use super::world::ViewsFixture;

#[test]
fn views_that_are_packed_at_random_moments_equal_views_that_never_are() {
    for seed in 0..4 {
        let log = random_log(seed, 2000);
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut plain, mut packed, mut oracle) = (Views::default(), Views::default(), Oracle::default());
        for recorded in &log.events {
            let (one, other) = (plain.apply(recorded), packed.apply(recorded));
            oracle.apply(recorded);
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "seed {seed} at {}", recorded.position);
            if rng.random_bool(0.03) {
                packed.pack();
            }
            if recorded.position.0 % 200 == 0 {
                assert_eq!(plain.digest(), packed.digest(), "seed {seed} at {}", recorded.position);
                check_pages(&packed, &oracle, &mut rng, &log, 4, any_filter);
                check_counters(&packed, &oracle, &mut rng, &log, 4, any_filter);
            }
        }
        assert_eq!(plain.packed_rows(), 0);
        packed.pack();
        assert!(packed.packed_rows() * 10 > packed.len() * 8, "{} of {}", packed.packed_rows(), packed.len());
        assert_eq!(plain.digest(), packed.digest());
    }
}

#[test]
fn each_field_of_a_task_survives_packing() {
    let mut fixture = ViewsFixture::default();
    let at = fixture.log.now();
    let parent = fixture.create_task("parent");
    let everything = Created {
        priority: -7,
        run_at: Some(at.plus(Duration::from_secs(1))),
        max_attempts: 9,
        timeout_s: Some(2_592_000),
        labels: [("team".to_owned(), "blau Straße".to_owned()), ("x".to_owned(), "y".to_owned())].into(),
        parent: Some(parent),
        unique_key: Some("unique".into()),
        concurrency_key: Some("key".into()),
        ..plain("ann", "Größe Σ")
    };
    let id = fixture.log.create(everything, "ann");
    fixture.apply_new_events();
    let same_packed = |fixture: &mut ViewsFixture, status: Status| {
        let row = fixture.views.get(id).unwrap().into_owned();
        let before = (to_value(row.doc(WaitingFor::Worker, None)).unwrap(), format!("{row:?}"));
        assert_eq!(row.status(), status);
        fixture.views.pack();
        let row = fixture.views.get(id).unwrap();
        assert_eq!((to_value(row.doc(WaitingFor::Worker, None)).unwrap(), format!("{row:?}")), before);
        assert_eq!(fixture.views.packed_rows(), if status.is_active() { 1 } else { 2 }, "{status:?}");
    };
    same_packed(&mut fixture, Status::Scheduled);
    fixture.execute(id, &Command::Enqueue { reason: QueuedReason::RunAt });
    same_packed(&mut fixture, Status::Queued);
    fixture.execute(id, &start("worker"));
    same_packed(&mut fixture, Status::Running);
    let error = TaskError { code: "lease_expired".into(), message: "löst".into() };
    let progress = Progress { fraction: Some(0.1), message: Some("halb".into()), at };
    fixture.execute(id, &Command::LoseAttempt { attempt: 1, error, progress: Some(progress) });
    same_packed(&mut fixture, Status::Retrying);
    fixture.execute(id, &Command::Enqueue { reason: QueuedReason::RetryAt });
    fixture.execute(id, &start("worker 2"));
    let policy = CancelLadder { ask_for_ms: Some(5), interrupt_for_ms: None };
    fixture.execute(id, &Command::RequestCancel { reason: Some("because".into()), policy });
    fixture.execute(
        id,
        &Command::AcknowledgeCancel {
            attempt: 2,
            lease_hash: None,
            stopping_after: Some("a step".into()),
            expected_end: Some(at),
        },
    );
    same_packed(&mut fixture, Status::Cancelling);
    fixture.execute(id, &succeed(2, "fertig"));
    same_packed(&mut fixture, Status::Succeeded);
}

/// Creates so many tasks and ends those that `ends` says. The time moves on with each event.
fn tasks(count: usize, ends: impl Fn(usize) -> bool) -> (Log, Views) {
    let mut log = Log::default();
    for n in 0..count {
        log.advance_time(Duration::from_millis(10));
        let id = log.create(plain("ann", &format!("task {n}")), "ann");
        if ends(n) {
            log.execute(id, &cancel(None), "ann").unwrap();
        }
    }
    let mut views = Views::default();
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    (log, views)
}

#[test]
fn the_tasks_of_a_full_block_are_packed_when_the_last_of_them_is_final() {
    assert_eq!(tasks(448, |_| true).1.packed_rows(), 0, "the block is not full");
    assert_eq!(tasks(512, |n| n % 2 == 0).1.packed_rows(), 0, "half of the tasks are open");
    assert_eq!(tasks(1024, |n| n != 3).1.packed_rows(), 449 + 512, "nearly all tasks of the first block are final");
    assert_eq!(tasks(1024, |_| true).1.packed_rows(), 1024);
    assert_eq!(tasks(1023, |_| true).1.packed_rows(), 512, "the last block is not full");
}

#[test]
fn queued_tasks_are_packed_too_when_many_newer_ones_follow() {
    let (mut log, mut views) = tasks(18 * 512, |_| false);
    assert_eq!(views.packed_rows(), 2 * 512);
    let digest = views.digest();
    views.pack();
    assert_eq!((views.digest(), views.packed_rows()), (digest, 18 * 512));
    // All tasks of the first block end one after the other. They are packed in few groups again.
    for n in 0..512 {
        let id = log.ids[n];
        let events = log.execute(id, &cancel(None), "ann").unwrap();
        log.events[log.events.len() - events..].iter().for_each(|recorded| drop(views.apply(recorded)));
        assert_eq!(views.get(id).unwrap().status(), Status::Cancelled);
        assert!(views.len() - views.packed_rows() <= 128, "after {n}");
    }
    assert_eq!(views.packed_rows(), 18 * 512);
    let mut again = Views::default();
    log.events.iter().for_each(|recorded| drop(again.apply(recorded)));
    assert_eq!(views.digest(), again.digest());
}

#[test]
fn a_snapshot_does_not_change_while_its_rows_are_unpacked_and_packed() {
    let (mut log, mut views) = tasks(600, |_| true);
    let snapshot = views.snapshot();
    let statuses = |snapshot: &taskbell::views::Snapshot| -> Vec<(TaskId, Status)> {
        snapshot.matching(&taskbell::views::Filter::default()).map(|row| (row.id(), row.status())).collect()
    };
    let before = statuses(&snapshot);
    for id in log.ids.clone() {
        log.execute(id, &Command::Retry { reason: None }, "ann").unwrap();
        views.apply(log.events.last().unwrap());
    }
    views.pack();
    assert_eq!(views.get(log.ids[0]).unwrap().status(), Status::Queued);
    assert_eq!(statuses(&snapshot), before);
    assert_eq!(before.iter().filter(|(_, status)| *status == Status::Cancelled).count(), 600);
}
