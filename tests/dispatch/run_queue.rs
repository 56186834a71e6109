//! Which task may run next: priorities, limits, concurrency keys, pauses, and the rotation between queues.

use taskbell::dispatch::in_flight::Executor;
use taskbell::task::Command;
use taskbell::task::queue::{Paused, QueueEvent, Resumed};
use taskbell::views::{Limits, WaitingFor, WorkOffer};

use super::Fixture;
use crate::views::history::{Created, start, succeed};

fn in_queue(name: &str) -> impl FnOnce(&mut Created) {
    move |new| name.clone_into(&mut new.queue)
}

fn with_key(key: &str) -> impl FnOnce(&mut Created) {
    move |new| new.concurrency_key = Some(key.to_owned())
}

#[test]
fn higher_priority_goes_first_then_the_older_task() {
    let mut fixture = Fixture::new(Limits::default());
    let ids = [0, 5, 5, -1].map(|priority| fixture.task(|new| new.priority = priority));
    assert_eq!(fixture.all(), [ids[1], ids[2], ids[0], ids[3]]);
    assert_eq!(fixture.next(), None, "nothing is taken twice");
}

#[test]
fn a_queue_with_many_tasks_does_not_starve_another() {
    let mut fixture = Fixture::new(Limits::default());
    let flood: Vec<_> = (0..100).map(|_| fixture.task(in_queue("flood"))).collect();
    let few = [0; 3].map(|_| fixture.task(in_queue("quiet")));
    let turns = fixture.all();
    assert_eq!(turns.len(), 103);
    let last = turns.iter().position(|id| *id == few[2]).unwrap();
    assert!(last <= 6, "three of the quiet queue were offered within {} offers", last + 1);
    let kept: Vec<_> = turns.into_iter().filter(|id| flood.contains(id)).collect();
    assert_eq!(kept, flood, "each queue keeps its own order");
}

#[test]
fn a_queue_that_was_empty_does_not_catch_up_on_the_offers_that_it_missed() {
    let mut fixture = Fixture::new(Limits::default());
    for _ in 0..10 {
        fixture.task(in_queue("busy"));
    }
    for _ in 0..5 {
        fixture.next();
    }
    let late: Vec<_> = (0..5).map(|_| fixture.task(in_queue("late"))).collect();
    let turns = fixture.all();
    let first_four = turns[..4].iter().filter(|id| late.contains(id)).count();
    assert_eq!(first_four, 2, "the queues alternate from now on");
}

#[test]
fn the_limit_of_a_kind_holds_and_an_offered_task_counts() {
    let limits = Limits { kinds: [("a".to_owned(), 2)].into(), ..Limits::default() };
    let mut fixture = Fixture::new(limits);
    let of = |kind: &str| {
        let kind = kind.to_owned();
        move |new: &mut Created| new.kind = kind
    };
    let a = [0; 3].map(|_| fixture.task(of("a")));
    let b = fixture.task(of("b"));
    assert_eq!(fixture.all(), [a[0], a[1], b]);
    assert_eq!(fixture.waits_for(a[2]), Some(WaitingFor::Limit));
    fixture.execute_and_apply(a[0], &start("w"));
    assert_eq!(fixture.next(), None, "its start changes nothing: it counted already");
    fixture.execute_and_apply(a[0], &succeed(1, "done"));
    assert_eq!(fixture.all(), [a[2]]);
}

#[test]
fn the_limit_of_a_queue_holds() {
    let limits = Limits { queues: [("small".to_owned(), 1)].into(), ..Limits::default() };
    let mut fixture = Fixture::new(limits);
    let small = [0; 2].map(|_| fixture.task(in_queue("small")));
    let other = fixture.task(in_queue("wide"));
    assert_eq!(fixture.all(), [small[0], other]);
    fixture.not_written(small[0]);
    assert_eq!(fixture.all(), [small[0]], "a task that is taken back returns to its position");
}

#[test]
fn tasks_with_one_key_share_a_limit_whatever_their_kind_and_queue() {
    let mut fixture = Fixture::new(Limits { per_key: Some(2), ..Limits::default() });
    let mine = [0; 3].map(|_| fixture.task(with_key("acme")));
    let elsewhere = fixture.task(|new| {
        with_key("acme")(new);
        new.kind = "another".to_owned();
        new.queue = "another".to_owned();
    });
    let yours = fixture.task(with_key("umbrella"));
    let free = fixture.task(|_| {});
    let turns = fixture.all();
    assert_eq!(turns.len(), 4);
    assert!(turns.contains(&yours) && turns.contains(&free));
    let left = [mine[0], mine[1], mine[2], elsewhere].into_iter().filter(|id| !turns.contains(id));
    for id in left {
        assert_eq!(fixture.waits_for(id), Some(WaitingFor::Limit));
    }
    let running = turns.iter().find(|id| mine.contains(id)).copied().unwrap();
    fixture.execute_and_apply(running, &start("w"));
    fixture.execute_and_apply(running, &succeed(1, "done"));
    assert_eq!(fixture.all().len(), 1);
}

#[test]
fn many_tasks_that_wait_for_one_key_do_not_hold_up_the_others() {
    let mut fixture = Fixture::new(Limits::default());
    let many: Vec<_> = (0..1000).map(|_| fixture.task(with_key("acme"))).collect();
    let free = fixture.task(|_| {});
    assert_eq!(fixture.all(), [many[0], free]);
}

#[test]
fn one_task_with_a_key_may_run_where_no_limit_is_set() {
    let mut fixture = Fixture::new(Limits::default());
    let ids = [0; 3].map(|_| fixture.task(with_key("acme")));
    for id in ids {
        assert_eq!(fixture.all(), [id]);
        fixture.execute_and_apply(id, &start("w"));
        fixture.execute_and_apply(id, &succeed(1, "done"));
    }
}

#[test]
fn no_task_of_a_paused_queue_is_offered_until_it_is_resumed() {
    let mut fixture = Fixture::new(Limits::default());
    let id = fixture.task(in_queue("q"));
    fixture.queue.apply_queue_event("q", &QueueEvent::Paused(Paused { reason: None }));
    fixture.queue.apply_queue_event("empty", &QueueEvent::Paused(Paused { reason: None }));
    let later = fixture.task(in_queue("empty"));
    assert_eq!(fixture.next(), None);
    assert_eq!(fixture.waits_for(id), Some(WaitingFor::PausedQueue));
    fixture.queue.apply_queue_event("q", &QueueEvent::Resumed(Resumed { reason: None }));
    assert_eq!(fixture.all(), [id]);
    fixture.queue.apply_queue_event("empty", &QueueEvent::Resumed(Resumed { reason: None }));
    assert_eq!(fixture.all(), [later]);
}

#[test]
fn a_cancel_before_the_start_frees_the_room_of_the_offered_task() {
    let mut fixture = Fixture::new(Limits { per_key: Some(1), ..Limits::default() });
    let first = fixture.task(with_key("acme"));
    let second = fixture.task(with_key("acme"));
    assert_eq!(fixture.all(), [first]);
    fixture.execute_and_apply(first, &Command::RequestCancel { reason: None, policy: <_>::default() });
    fixture.refused(first);
    assert_eq!(fixture.all(), [second], "the rejected start comes after the cancel and changes nothing");
}

#[test]
fn workers_get_only_what_they_offer_and_the_servers_own_kinds_only_by_name() {
    let mut fixture = Fixture::new(Limits::default());
    fixture.task(|new| new.kind = "taskbell.bulk-cancel".to_owned());
    let other = fixture.task(|new| {
        new.kind = "b".to_owned();
        new.queue = "slow".to_owned();
    });
    assert_eq!(fixture.all(), [other]);
    fixture.not_written(other);
    let wants =
        |kind: &str, queue: &str| WorkOffer { kinds: Some(vec![kind.into()]), queues: Some(vec![queue.into()]) };
    assert_eq!(fixture.in_flight.take(&mut fixture.queue, &wants("b", "default"), Executor::Remote), None);
    assert_eq!(fixture.in_flight.take(&mut fixture.queue, &wants("a", "slow"), Executor::Remote), None);
    assert_eq!(fixture.in_flight.take(&mut fixture.queue, &wants("b", "slow"), Executor::Remote), Some(other));
}

#[test]
fn a_task_that_is_held_back_is_taken_once_it_is_admitted_and_not_before() {
    let mut fixture = Fixture::new(Limits::default());
    let (held, other) = (fixture.held_task(), fixture.task(|_| {}));
    assert_eq!(fixture.all(), [other]);
    fixture.queue.admit(held);
    fixture.queue.admit(held);
    assert_eq!(fixture.all(), [held]);
}

#[test]
fn a_held_task_that_another_server_starts_counts_against_the_limits_and_is_not_taken_here() {
    let mut fixture = Fixture::new(Limits { queues: [("default".to_owned(), 1)].into(), ..Limits::default() });
    let (held, other) = (fixture.held_task(), fixture.task(|_| {}));
    fixture.execute_and_apply(held, &start("w"));
    fixture.queue.admit(held);
    assert_eq!(fixture.all(), []);
    fixture.execute_and_apply(held, &succeed(1, "done"));
    assert_eq!(fixture.all(), [other]);
}
