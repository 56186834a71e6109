//! For every legal history and at every position, the views equal a simple fold of the log.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, to_value};
use taskbell::dispatch::task_timers::{Moment, TaskTimers, Timer};
use taskbell::task::event::Progress;
use taskbell::task::{Position, Status, Timestamp};
use taskbell::views::{
    Cursor, Filter, NamedCounts, Order, Page, PageRequest, RowBudget, RunQueue, Scope, Snapshot, Views, WaitingFor,
    WorkOffer,
};

use super::history::{KINDS, Log, OWNERS, QUEUES, random_log};
use super::oracle::{ExpectedTask, Oracle};

pub(super) fn any_filter(rng: &mut StdRng, log: &Log) -> Filter {
    let some = |rng: &mut StdRng, all: &[&str], p: f64| -> Vec<String> {
        all.iter().filter(|_| rng.random_bool(p)).map(|one| (*one).to_owned()).collect()
    };
    let mut filter = Filter::default();
    if rng.random_bool(0.6) {
        filter.owner = some(rng, &[&OWNERS[..], &["nobody"]].concat(), 0.35);
    }
    if rng.random_bool(0.6) {
        filter.status = Status::ALL.into_iter().filter(|_| rng.random_bool(0.3)).collect();
    }
    if rng.random_bool(0.3) {
        filter.kind = some(rng, &KINDS, 0.5);
    }
    if rng.random_bool(0.3) {
        filter.queue = some(rng, &QUEUES, 0.5);
    }
    if rng.random_bool(0.2) {
        filter.q = some(rng, &["ALPHA", "eta", "strasse", "straße", "É"], 0.3);
    }
    if rng.random_bool(0.15) {
        filter.labels = vec![("env".to_owned(), "a:b".to_owned())];
    }
    if rng.random_bool(0.1) {
        filter.parent = log.ids.choose(rng).copied();
    }
    let time = |rng: &mut StdRng| rng.random_bool(0.1).then(|| log.events.choose(rng).unwrap().time);
    (filter.created_after, filter.created_before) = (time(rng), time(rng));
    (filter.finished_after, filter.finished_before) = (time(rng), time(rng));
    filter
}

fn ids(page: &Page) -> Vec<String> {
    page.items.iter().map(|row| row.id().to_string()).collect()
}

pub(super) type Query<'a> = &'a dyn Fn(&PageRequest) -> Page;

/// Requests the pages up to the last and back to the first, with cursors as text, and compares them with the expected
/// tasks.
pub(super) fn check_walk(query: Query, expected: &[&ExpectedTask], order: Order, limit: usize) {
    let mut expected: Vec<String> = expected.iter().map(|entry| entry.doc["id"].as_str().unwrap().to_owned()).collect();
    if order == Order::Desc {
        expected.reverse();
    }
    let pages: Vec<Vec<String>> = expected.chunks(limit).map(<[String]>::to_vec).collect();
    let again = |cursor: Cursor| Some(Cursor::decode(&cursor.encode()).unwrap());
    let mut page = query(&PageRequest { order, limit, cursor: None });
    assert!(page.prev.is_none(), "no page comes before the first");
    if pages.is_empty() {
        assert!(page.items.is_empty() && page.next.is_none() && page.total == 0);
        return;
    }
    for (n, items) in pages.iter().enumerate() {
        assert_eq!((&ids(&page), page.total), (items, expected.len() as u64));
        assert_eq!(page.next.is_some(), n + 1 < pages.len());
        assert_eq!(page.prev.is_some(), n > 0);
        if let Some(next) = page.next {
            page = query(&PageRequest { order, limit, cursor: again(next) });
        }
    }
    for (n, items) in pages.iter().enumerate().rev() {
        assert_eq!((&ids(&page), page.total), (items, expected.len() as u64));
        assert_eq!((page.prev.is_some(), page.next.is_some()), (n > 0, n + 1 < pages.len()));
        if let Some(prev) = page.prev {
            page = query(&PageRequest { order, limit, cursor: again(prev) });
        }
    }
}

pub(super) fn check_pages(
    views: &Views,
    oracle: &Oracle,
    rng: &mut StdRng,
    log: &Log,
    filters: usize,
    any_filter: fn(&mut StdRng, &Log) -> Filter,
) {
    let whole = views.snapshot();
    for _ in 0..filters {
        let filter = any_filter(rng, log);
        let limit = *[1, 2, 7, 50, 1000].choose(rng).unwrap();
        let limit = if oracle.tasks.len() > 200 { limit.max(50) } else { limit };
        let expected = oracle.matching(&filter);
        let part = views.snapshot_for(&filter);
        for order in [Order::Asc, Order::Desc] {
            check_walk(&|request| views.page(&filter, request).unwrap(), &expected, order, limit);
            check_walk(&|request| whole.page(&filter, request).unwrap(), &expected, order, limit);
            check_walk(&|request| part.page(&filter, request).unwrap(), &expected, order, limit);
        }
        assert!(
            views.page(&filter, &PageRequest { limit: 1, ..PageRequest::default() }).unwrap().total
                <= views.len() as u64
        );
    }
}

/// Asserts that the bells of everyone and of some owners, and the counters within random filters, are those of the oracle for
/// each viewer, from the live views and from a snapshot.
pub(super) fn check_counters(
    views: &Views,
    oracle: &Oracle,
    rng: &mut StdRng,
    log: &Log,
    filters: usize,
    any_filter: fn(&mut StdRng, &Log) -> Filter,
) {
    let viewers = [&OWNERS[..], &["nobody"]].concat();
    let some = |owners: &[&str]| Scope::Owners(owners.iter().map(|owner| (*owner).to_owned()).collect());
    let scopes = [Scope::Everyone, some(&[]), some(&["ann"]), some(&["nobody"]), some(&["bob", "dan", "bob"])];
    for (viewer, scope) in viewers.iter().flat_map(|viewer| scopes.iter().map(move |scope| (*viewer, scope))) {
        let expected = oracle.counters_within(&Filter::of(scope.clone()), viewer);
        assert_eq!(to_value(views.bell(scope, viewer)).unwrap(), expected, "{scope:?} for {viewer}");
    }
    for _ in 0..filters {
        let (filter, viewer) = (any_filter(rng, log), *viewers.choose(rng).unwrap());
        let expected = oracle.counters_within(&filter, viewer);
        let live = views.counters_within(&filter, viewer, &RowBudget::unlimited()).unwrap();
        assert_eq!(to_value(live).unwrap(), expected, "{filter:?} for {viewer}");
        for snapshot in [views.snapshot(), views.snapshot_for(&filter)] {
            let counted = snapshot.counters(&filter, views.seen_for(&filter, viewer));
            assert_eq!(to_value(counted).unwrap(), expected, "{filter:?} for {viewer}");
        }
    }
}

/// Asserts that the updated run queue and a new one have the tasks of the oracle for each queue and kind, in the same
/// order.
fn check_run_queue(views: &Views, followed: &RunQueue, oracle: &Oracle) {
    let mut anew = RunQueue::default();
    views.rows().for_each(|row| anew.apply_change(None, &row, None));
    for mut pending in [followed.clone(), anew] {
        for (kind, queue) in KINDS.iter().flat_map(|kind| QUEUES.map(|queue| (kind, queue))) {
            let wants = WorkOffer { kinds: Some(vec![(*kind).to_owned()]), queues: Some(vec![queue.to_owned()]) };
            let turns: Vec<String> =
                std::iter::from_fn(|| pending.take(&wants)).map(|(id, _)| id.to_string()).collect();
            assert_eq!(turns, oracle.queued(kind, queue));
        }
    }
    check_timers(views, oracle);
}

/// Asserts that each task that waits for a time has a timer for it, and that the timers are due in the order of the oracle.
fn check_timers(views: &Views, oracle: &Oracle) {
    let (wall, steady) = (Timestamp::from_micros(0), Instant::now());
    let (mut timers, former) = (TaskTimers::default(), TaskTimers::default());
    views.rows().for_each(|row| timers.restore(&row, &former, false, Moment { wall, steady }));
    let end = Moment { wall: Timestamp::from_micros(i64::MAX), steady: steady + Duration::from_secs(1 << 40) };
    let mut due: Vec<_> = timers.take_due(end, usize::MAX);
    due.sort_by_key(|(task, timer)| (timer.due, *task));
    let waiting = due.into_iter().filter_map(|(task, timer)| match timer.timer {
        Timer::Enqueue(reason) => Some((timer.due.to_string(), task.to_string(), format!("{reason:?}"))),
        Timer::Escalate { .. } | Timer::TimeOut { .. } => None,
    });
    let mut expected: Vec<_> = oracle.due().into_iter().map(|(at, id, reason)| (at, id, reason.to_owned())).collect();
    expected.sort();
    assert_eq!(waiting.collect::<Vec<_>>(), expected);
}

/// Asserts that the counts of each queue that ever had a task are those of the oracle.
fn check_queues(views: &Views, oracle: &Oracle) {
    let queues = views.queue_counts().into_iter();
    let queues: Value =
        queues.map(|(name, counts)| (name.to_string(), to_value(NamedCounts(counts)).unwrap())).collect();
    assert_eq!(queues, oracle.queues());
}

/// Applies one event to the views and the oracle. Compares the reported change, the task and the bell of every owner.
fn step(views: &mut Views, pending: &mut RunQueue, oracle: &mut Oracle, recorded: &taskbell::store::Recorded) {
    let bells = |views: &Views| OWNERS.map(|owner| views.counters(owner));
    let before = bells(views);
    let applied = views.apply(recorded);
    oracle.apply(recorded);
    assert_eq!(views.position(), recorded.position);
    assert_eq!(views.time(), Some(recorded.time));
    for (owner, (was, is)) in OWNERS.into_iter().zip(before.into_iter().zip(bells(views))) {
        assert_eq!(to_value(is).unwrap(), oracle.counters(owner));
        if (was.counts, was.unseen, was.seen) != (is.counts, is.unseen, is.seen) {
            assert_eq!(applied.owner.as_deref(), Some(owner), "a change of the counters is reported");
        }
        let everyone = views.bell(&Scope::Everyone, owner);
        assert_eq!(to_value(everyone).unwrap(), oracle.counters_within(&Filter::default(), owner));
    }
    let Some(changed) = applied.task else { return };
    pending.apply_change(changed.before.as_ref(), &changed.after, None);
    let id = changed.after.id();
    let doc = to_value(views.get(id).unwrap().doc(WaitingFor::Worker, None)).unwrap();
    assert_eq!(doc, to_value(changed.after.doc(WaitingFor::Worker, None)).unwrap());
    let entry = oracle.tasks.iter().find(|entry| entry.doc["id"] == id.to_string()).unwrap();
    assert_eq!(doc, entry.doc);
    assert_eq!(changed.before.is_none(), changed.after.position() == changed.after.created_position());
}

#[test]
fn at_every_position_bells_and_tasks_are_what_a_naive_fold_of_the_log_says() {
    for seed in 0..4 {
        let log = random_log(seed, 500);
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut views, mut pending, mut oracle) = (Views::default(), RunQueue::default(), Oracle::default());
        let mut kept: Vec<(Snapshot, Oracle)> = Vec::new();
        for recorded in &log.events {
            step(&mut views, &mut pending, &mut oracle, recorded);
            check_run_queue(&views, &pending, &oracle);
            check_queues(&views, &oracle);
            if recorded.position.0 % 25 == 0 {
                check_pages(&views, &oracle, &mut rng, &log, 3, any_filter);
                check_counters(&views, &oracle, &mut rng, &log, 6, any_filter);
                kept.push((views.snapshot(), oracle.clone()));
            }
        }
        for (caller, key, task, hash) in &oracle.keys {
            let (found, body) = views.task_of_idempotency_key(caller, key).unwrap();
            assert_eq!((&found.to_string(), body), (task, hash.as_str()));
        }
        for (snapshot, then) in kept {
            assert_eq!(snapshot.position(), Position(then.position));
            let all = Filter::default();
            let expected = then.matching(&all);
            check_walk(&|request| snapshot.page(&all, request).unwrap(), &expected, Order::Desc, 9);
            let docs: Vec<_> =
                snapshot.matching(&all).map(|r| to_value(r.doc(WaitingFor::Worker, None)).unwrap()).collect();
            assert_eq!(docs, expected.iter().map(|entry| entry.doc.clone()).collect::<Vec<_>>());
        }
    }
}

#[test]
fn pages_of_a_long_list_are_those_of_a_naive_fold_across_blocks_and_words() {
    let log = random_log(99, 9_000);
    assert!(log.ids.len() > 1_024, "more than two blocks, and owners with more than 64 tasks");
    let mut rng = StdRng::seed_from_u64(99);
    let (mut views, mut pending, mut oracle) = (Views::default(), RunQueue::default(), Oracle::default());
    for recorded in &log.events {
        if let Some(changed) = views.apply(recorded).task {
            pending.apply_change(changed.before.as_ref(), &changed.after, None);
        }
        oracle.apply(recorded);
    }
    for owner in OWNERS {
        assert_eq!(to_value(views.counters(owner)).unwrap(), oracle.counters(owner));
    }
    for status in Status::ALL {
        let there = oracle.tasks.iter().any(|entry| entry.doc["status"] == status.name());
        assert!(there, "the history has no {} task", status.name());
    }
    check_pages(&views, &oracle, &mut rng, &log, 25, any_filter);
    check_counters(&views, &oracle, &mut rng, &log, 50, any_filter);
    check_run_queue(&views, &pending, &oracle);
}

#[test]
fn a_replay_gives_equal_views_and_progress_reports_have_no_part_in_them() {
    let log = random_log(7, 800);
    let (mut live, mut replayed) = (Views::default(), Views::default());
    let everyone = |views: &Views| OWNERS.map(|viewer| views.bell(&Scope::Everyone, viewer));
    let mut digests = Vec::new();
    for recorded in &log.events {
        if let Some(changed) = live.apply(recorded).task {
            let at = recorded.time;
            live.set_live_progress(
                changed.after.id(),
                changed.after.attempt(),
                Progress { fraction: None, message: None, at },
            );
        }
        if recorded.position.0 % 100 == 0 {
            digests.push(live.digest());
        }
    }
    for recorded in &log.events {
        replayed.apply(recorded);
        if recorded.position.0 % 100 == 0 {
            assert_eq!(replayed.digest(), digests[usize::try_from(recorded.position.0).unwrap() / 100 - 1]);
        }
    }
    assert_eq!(everyone(&replayed), everyone(&live), "the bells of everyone too");
    digests.dedup();
    assert_eq!(digests.len(), 8, "different positions have different digests");
}
