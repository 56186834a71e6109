//! Filters, pages, cursors, snapshots and keys. The name of each test states a rule.

use std::time::Duration;

use taskbell::task::event::Idempotency;
use taskbell::task::{Position, Status, Timestamp};
use taskbell::views::cursor::InvalidCursor;
use taskbell::views::{Cursor, Filter, Order, Page, PageRequest, Row, Views};

use super::history::{Created, Log, fail, plain, start, succeed};
use super::world::ViewsFixture;

#[test]
fn after_and_before_leave_out_the_instant_itself() {
    let mut fixture = ViewsFixture::default();
    let id = fixture.create_task("one");
    fixture.execute(id, &start("w"));
    fixture.execute(id, &succeed(1, "done"));
    let row = fixture.views.get(id).unwrap();
    let (created, finished) = (row.created_at(), row.finished_at().unwrap());
    let micro = Duration::from_micros(1);
    let earlier = |at: Timestamp| Timestamp::from_micros(at.as_micros() - 1);
    let all = Filter::default();
    for (filter, matches) in [
        (Filter { created_after: Some(created), ..all.clone() }, false),
        (Filter { created_after: Some(earlier(created)), ..all.clone() }, true),
        (Filter { created_before: Some(created), ..all.clone() }, false),
        (Filter { created_before: Some(created.plus(micro)), ..all.clone() }, true),
        (Filter { finished_after: Some(finished), ..all.clone() }, false),
        (Filter { finished_before: Some(finished.plus(micro)), ..all.clone() }, true),
    ] {
        assert_eq!(filter.matches(&row), matches, "{filter:?}");
    }
}

#[test]
fn words_are_found_in_title_and_outcome_in_any_case_and_all_of_them_must_match() {
    let mut fixture = ViewsFixture::default();
    let (good, bad) = (fixture.create_task("Weekly REPORT"), fixture.create_task("weekly mail"));
    fixture.execute(good, &start("w"));
    fixture.execute(good, &succeed(1, "Sent to Zürich"));
    fixture.execute(bad, &start("w"));
    fixture.execute(bad, &fail(1, "the Disk is full", false));
    let found = |q: &str| fixture.page(&Filter { q: Filter::words(q), ..Filter::default() }, 9, None).total;
    assert_eq!(["weekly", "WEEK report", "zÜRICH  weekly", "disk weekly", "disk report"].map(found), [2, 1, 1, 1, 0]);
}

#[test]
fn a_fingerprint_depends_on_the_values_of_a_filter_and_not_on_their_order_or_case() {
    let one = Filter { owner: vec!["a".into(), "b".into()], q: vec!["Word".into()], ..Filter::default() };
    let same = Filter { owner: vec!["b".into(), "a".into(), "b".into()], q: vec!["word".into()], ..Filter::default() };
    let other = Filter { kind: one.owner.clone(), q: one.q.clone(), ..Filter::default() };
    assert_eq!(one.fingerprint(), same.fingerprint());
    assert_ne!(one.fingerprint(), other.fingerprint());
    assert_eq!(Filter::default().fingerprint(), 9_335_799_305_684_640_815, "stable across restarts");
}

#[test]
fn a_cursor_of_another_list_or_with_a_wrong_letter_is_rejected() {
    let mut fixture = ViewsFixture::default();
    fixture.create_tasks(3);
    let all = Filter::default();
    let next = fixture.page(&all, 1, None).next.unwrap();
    let text = next.encode();
    assert_eq!(Cursor::decode(&text), Ok(next));
    for at in 0..text.len() {
        let wrong = if &text[at..=at] == "0" { "1" } else { "0" };
        let changed = format!("{}{wrong}{}", &text[..at], &text[at + 1..]);
        assert_eq!(Cursor::decode(&changed), Err(InvalidCursor), "{changed}");
    }
    for bad in ["", "0", "é", &text[1..], &text.to_uppercase(), &"é".repeat(21), &"f".repeat(42)] {
        assert_eq!(Cursor::decode(bad), Err(InvalidCursor), "{bad}");
    }
    let request = |filter: &Filter, order| {
        fixture.views.page(filter, &PageRequest { order, limit: 1, cursor: Some(next) }).map(|page| page.total)
    };
    assert_eq!(request(&all, Order::Desc), Ok(3));
    assert_eq!(request(&all, Order::Asc), Err(InvalidCursor));
    assert_eq!(request(&Filter { owner: vec!["ann".into()], ..Filter::default() }, Order::Desc), Err(InvalidCursor));
}

#[test]
fn a_page_stays_in_its_place_while_tasks_begin_and_cease_to_match() {
    let mut fixture = ViewsFixture::default();
    let ids = fixture.create_tasks(6);
    let queued = Filter { status: vec![Status::Queued], ..Filter::default() };
    let shown = |page: &Page| page.items.iter().map(Row::id).collect::<Vec<_>>();
    let first = fixture.page(&queued, 2, None);
    assert_eq!((shown(&first), first.prev), (vec![ids[5], ids[4]], None));
    let late = fixture.create_task("late");
    fixture.execute(ids[4], &start("w"));
    let second = fixture.page(&queued, 2, first.next);
    assert_eq!(shown(&second), vec![ids[3], ids[2]], "neither repeated nor left out");
    let back = fixture.page(&queued, 2, second.prev);
    assert_eq!(shown(&back), vec![late, ids[5]]);
    assert_eq!(shown(&fixture.page(&queued, 2, back.next)), vec![ids[3], ids[2]]);
    for id in [ids[0], ids[1], ids[2], ids[3]] {
        fixture.execute(id, &start("w"));
    }
    let gone = fixture.page(&queued, 2, first.next);
    assert!(gone.items.is_empty() && gone.next.is_none() && gone.total == 2);
    assert_eq!(shown(&fixture.page(&queued, 2, gone.prev)), vec![late, ids[5]], "an empty page leads back");
}

#[test]
fn a_snapshot_does_not_change() {
    let mut fixture = ViewsFixture::default();
    let ids = fixture.create_tasks(3);
    let snapshot = fixture.views.snapshot();
    fixture.execute(ids[0], &start("w"));
    fixture.create_task("later");
    let all = Filter::default();
    assert!(snapshot.matching(&all).all(|row| row.status() == Status::Queued));
    assert_eq!(snapshot.page(&all, &PageRequest { limit: 9, ..PageRequest::default() }).unwrap().total, 3);
    assert_eq!(snapshot.position(), Position(3));
}

#[test]
fn an_idempotency_key_belongs_to_its_caller_and_finds_the_first_task() {
    let mut log = Log::default();
    let with = |hash: &str| {
        let idempotency = Some(Idempotency { key: "k".into(), body_hash: hash.into() });
        Created { idempotency, ..plain("ann", "x") }
    };
    let (first, _again, other) =
        (log.create(with("1"), "ann"), log.create(with("2"), "ann"), log.create(with("3"), "bob"));
    let mut views = Views::default();
    log.events.iter().for_each(|recorded| drop(views.apply(recorded)));
    assert_eq!(views.task_of_idempotency_key("ann", "k"), Some((first, "1")));
    assert_eq!(views.task_of_idempotency_key("bob", "k"), Some((other, "3")));
    assert_eq!((views.task_of_idempotency_key("ann", "K"), views.task_of_idempotency_key("cleo", "k")), (None, None));
}
