//! Windows of time: pages, totals and counters are exact, and few rows are read.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use taskbell::task::{Status, Timestamp};
use taskbell::views::{Filter, Order, PageRequest, RowBudget, Views};

use super::history::{KINDS, Log, OWNERS, cancel, plain, random_log};
use super::laws::{check_counters, check_pages};
use super::oracle::Oracle;

/// A filter with windows of time that begin and end at events of the log.
fn with_windows(rng: &mut StdRng, log: &Log) -> Filter {
    let time = |rng: &mut StdRng| rng.random_bool(0.4).then(|| log.events.choose(rng).unwrap().time);
    let some = |rng: &mut StdRng, names: &[&str]| -> Vec<String> {
        names.iter().filter(|_| rng.random_bool(0.2)).map(|name| (*name).to_owned()).collect()
    };
    Filter {
        status: Status::ALL.into_iter().filter(|_| rng.random_bool(0.2)).collect(),
        owner: some(rng, &OWNERS),
        kind: some(rng, &KINDS),
        created_after: time(rng),
        created_before: time(rng),
        finished_after: time(rng),
        finished_before: time(rng),
        ..Filter::default()
    }
}

/// Asserts that pages and counters with random windows are those of the oracle, before and after all rows are packed.
fn check_windows(log: &Log, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut views, mut oracle) = (Views::default(), Oracle::default());
    for recorded in &log.events {
        views.apply(recorded);
        oracle.apply(recorded);
    }
    for _ in 0..2 {
        check_pages(&views, &oracle, &mut rng, log, 25, with_windows);
        check_counters(&views, &oracle, &mut rng, log, 50, with_windows);
        views.pack();
    }
}

#[test]
fn pages_and_counters_within_windows_are_those_of_a_naive_fold() {
    let log = random_log(21, 9_000);
    assert!(log.ids.len() > 1_024, "more than two blocks");
    check_windows(&log, 21);
}

#[test]
fn they_are_exact_too_after_the_clock_has_stepped_back_again_and_again() {
    let (mut log, mut rng) = (random_log(22, 9_000), StdRng::seed_from_u64(22));
    let mut behind = 0;
    for recorded in &mut log.events {
        if rng.random_bool(0.003) {
            behind = rng.random_range(0..2_000_000_000);
        }
        recorded.fact.time = Timestamp::from_micros(recorded.time.as_micros() - behind);
    }
    let steps = log.events.windows(2).filter(|pair| pair[1].time < pair[0].time).count();
    assert!(steps > 5, "{steps} steps back");
    check_windows(&log, 22);
}

#[test]
fn a_page_of_a_window_reads_only_the_rows_that_it_shows() {
    let (mut log, mut views) = (Log::default(), Views::default());
    let start = log.now();
    for n in 0..5000 {
        log.advance_time(Duration::from_secs(1));
        let id = log.create(plain(OWNERS[n % 4], "task"), "ann");
        if n % 3 > 0 {
            log.execute(id, &cancel(None), "ann").unwrap();
        }
    }
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    let at = |second: u64| Some(start.plus(Duration::from_secs(second)));
    let created = Filter { created_after: at(1000), created_before: at(4001), ..Filter::default() };
    let finished = Filter { finished_after: at(1000), finished_before: at(4001), ..Filter::default() };
    let of = |owner: &str| vec![owner.to_owned()];
    for (filter, total, rows_max) in [
        (created.clone(), 3000, 51),
        (Filter { status: vec![Status::Queued], ..created.clone() }, 1000, 51),
        (Filter { owner: of("bob"), ..created.clone() }, 750, 51),
        (Filter { owner: of("bob"), kind: vec![KINDS[1].to_owned()], ..created }, 0, 0),
        (finished.clone(), 2000, 600),
        (Filter { owner: of("bob"), status: vec![Status::Cancelled], ..finished }, 500, 600),
    ] {
        for order in [Order::Asc, Order::Desc] {
            let budget = RowBudget::new(1000);
            let page = views.page_within(&filter, &PageRequest { order, limit: 50, cursor: None }, &budget).unwrap();
            assert_eq!(page.map(|page| page.total), Some(total), "{filter:?}");
            assert!(budget.rows_read() <= rows_max, "{} rows for {filter:?}", budget.rows_read());
        }
    }
}
