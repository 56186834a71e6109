//! The number of rows that a query reads while it holds the lock of the views.

use taskbell::task::{Position, Status, Timestamp};
use taskbell::views::{Filter, Order, Page, PageRequest, RowBudget, Scope, Views};

use super::history::{Created, Log, cancel, plain};

/// Views with this many tasks of each kind, of 100 owners. All tasks of one kind are created before those of the next.
fn views(kinds: &[(&str, usize)]) -> Views {
    let (mut log, mut views) = (Log::default(), Views::default());
    for (kind, count) in kinds {
        for n in 0..*count {
            let owner = format!("owner {}", n % 100);
            log.create(Created { kind: (*kind).to_owned(), ..plain(&owner, "task") }, "ann");
        }
    }
    for recorded in &log.events {
        views.apply(recorded);
    }
    views
}

fn of_kind(kind: &str) -> Filter {
    Filter { kind: vec![kind.to_owned()], ..Filter::default() }
}

fn since_long_ago() -> Filter {
    Filter { created_after: Some(Timestamp::from_micros(0)), ..Filter::default() }
}

/// The page, if the bound of `most` rows allows it, and the number of rows that were read.
fn page_within(views: &Views, filter: &Filter, request: &PageRequest, most: usize) -> (Option<Page>, usize) {
    let budget = RowBudget::new(most);
    let page = views.page_within(filter, request, &budget).unwrap();
    (page, budget.rows_read())
}

fn newest(limit: usize) -> PageRequest {
    PageRequest { order: Order::Desc, limit, cursor: None }
}

#[test]
fn a_kind_that_lies_below_many_newer_tasks_is_not_looked_for_beyond_the_bound() {
    let views = views(&[("old", 300), ("new", 1200)]);
    let (page, rows) = page_within(&views, &of_kind("old"), &newest(20), 1000);
    assert!(rows <= 1000, "{rows} rows were read under the lock");
    assert!(page.is_none(), "the caller reads a snapshot");
    assert_eq!(views.snapshot_for(&of_kind("old")).page(&of_kind("old"), &newest(20)).unwrap().total, 300);
}

#[test]
fn a_page_that_the_bound_allows_is_the_same_page() {
    let views = views(&[("old", 300), ("new", 1200)]);
    let filter = of_kind("new");
    let (page, rows) = page_within(&views, &filter, &newest(20), 1000);
    let (page, whole) = (page.unwrap(), views.page(&filter, &newest(20)).unwrap());
    assert_eq!((page.total, page.next, page.items.len()), (whole.total, whole.next, 20));
    assert!(rows <= 22, "{rows} rows were read for a page of 20");
}

#[test]
fn a_bound_that_is_exactly_enough_gives_the_page_and_one_row_less_gives_none() {
    let views = views(&[("old", 100), ("new", 300)]);
    let request = newest(1);
    assert!(page_within(&views, &of_kind("old"), &request, 302).0.is_some());
    let (page, rows) = page_within(&views, &of_kind("old"), &request, 301);
    assert!(page.is_none() && rows <= 301, "{rows} rows");
}

#[test]
fn a_kind_of_few_owners_is_found_below_any_number_of_newer_tasks() {
    let views = views(&[("old", 30), ("new", 1200)]);
    let (page, rows) = page_within(&views, &of_kind("old"), &newest(20), 1000);
    assert_eq!(page.map(|page| (page.items.len(), page.total)), Some((20, 30)));
    assert_eq!(rows, 21);
}

#[test]
fn a_search_that_can_not_end_within_the_bound_does_not_begin() {
    let views = views(&[("new", 50)]);
    let filter = Filter { q: Filter::words("nothing"), ..Filter::default() };
    let (page, rows) = page_within(&views, &filter, &newest(20), 49);
    assert!(page.is_none());
    assert_eq!(rows, 0);
}

/// Views with this many cancelled tasks, and as many queued ones.
fn ended_views(count: usize) -> Views {
    let (mut log, mut views) = (Log::default(), Views::default());
    for n in 0..2 * count {
        let id = log.create(plain(if n % 3 == 0 { "bob" } else { "ann" }, "task"), "ann");
        if n < count {
            log.execute(id, &cancel(None), "ann").unwrap();
        }
    }
    // Until a viewer has seen something, the numbers of ended tasks and of unseen ones are the same.
    log.mark_seen("ann", Position(1));
    for recorded in &log.events {
        views.apply(recorded);
    }
    views
}

#[test]
fn counters_of_everyone_of_an_owner_and_of_a_kind_read_no_row_and_those_of_a_window_read_final_tasks_only() {
    let views = ended_views(600);
    let counted = |filter: &Filter| {
        let budget = RowBudget::new(1000);
        let counters = views.counters_within(filter, "ann", &budget).unwrap();
        (counters.counts[Status::Queued as usize], counters.unseen.cancelled, budget.rows_read())
    };
    assert_eq!(counted(&Filter::default()), (600, 600, 0));
    assert_eq!(counted(&Filter::of(Scope::of("bob"))), (200, 200, 0));
    assert_eq!(counted(&of_kind("mail.send")), (600, 600, 0));
    assert_eq!(counted(&Filter { status: vec![Status::Queued], ..Filter::default() }), (600, 0, 0));
    assert_eq!(counted(&Filter { kind: of_kind("mail.send").kind, ..Filter::of(Scope::of("bob")) }), (200, 200, 0));
    assert_eq!(counted(&since_long_ago()), (600, 600, 600));
}

#[test]
fn counters_that_need_more_rows_than_the_bound_are_left_to_a_snapshot() {
    let views = ended_views(600);
    let words = Filter { q: Filter::words("task"), ..Filter::default() };
    for (filter, rows) in [(since_long_ago(), 600), (words, 1200)] {
        let budget = RowBudget::new(rows - 1);
        assert_eq!(views.counters_within(&filter, "ann", &budget), None);
        assert_eq!(budget.rows_read(), 0, "it doesn't begin");
        let live = views.counters_within(&filter, "ann", &RowBudget::new(rows)).unwrap();
        assert_eq!(views.snapshot_for(&filter).counters(&filter, views.seen_for(&filter, "ann")), live);
        assert_eq!(live.counts[Status::Queued as usize], 600);
    }
}
