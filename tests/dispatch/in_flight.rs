//! Races of the in-flight table: the result of a start, the events of the log, and the end of the handler arrive in
//! different orders.

use taskbell::dispatch::in_flight::Executor;
use taskbell::dispatch::messages::Directive;
use taskbell::task::{Command, TaskId};
use taskbell::views::Limits;

use super::Fixture;
use crate::views::history::{cancel, fail, start, succeed};

const LOCAL: &str = "local/server/boot";

fn retry() -> Command {
    Command::Retry { reason: None }
}

/// One task, whose start for this executor was sent.
fn starting(executor: Executor, limits: Limits) -> (Fixture, TaskId) {
    let mut fixture = Fixture::new(limits);
    let id = fixture.task(|_| {});
    assert_eq!(fixture.take(executor), Some(id));
    (fixture, id)
}

fn one_per_kind() -> Limits {
    Limits { kinds: [("mail.send".to_owned(), 1), ("x".to_owned(), 1)].into(), ..Limits::default() }
}

#[test]
fn a_task_that_was_cancelled_and_retried_while_its_start_was_under_way_is_taken_again_after_the_refusal() {
    for executor in [Executor::LocalSlot, Executor::Remote] {
        let (mut fixture, id) = starting(executor, Limits::default());
        fixture.execute_and_apply(id, &cancel(None));
        fixture.execute_and_apply(id, &retry());
        assert_eq!(fixture.take(executor), None, "no second start while the first is not answered");
        fixture.refused(id);
        assert_eq!(fixture.take(executor), Some(id), "{executor:?}: the task is queued and has its turn");
    }
}

#[test]
fn a_task_that_was_cancelled_and_retried_is_taken_again_when_the_refusal_comes_before_the_events() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.execute(id, &cancel(None));
    fixture.execute(id, &retry());
    fixture.refused(id);
    assert_eq!(fixture.take(Executor::LocalSlot), None, "its events are still on their way");
    fixture.apply_new_events();
    assert_eq!(fixture.take(Executor::LocalSlot), Some(id));
}

#[test]
fn a_task_that_was_cancelled_and_retried_is_taken_again_when_the_refusal_comes_between_the_events() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.execute_and_apply(id, &cancel(None));
    fixture.refused(id);
    assert_eq!(fixture.take(Executor::LocalSlot), None);
    fixture.execute_and_apply(id, &retry());
    assert_eq!(fixture.take(Executor::LocalSlot), Some(id));
}

#[test]
fn a_start_that_succeeds_after_a_cancel_and_a_retry_leaves_nothing_behind() {
    let (mut fixture, id) = starting(Executor::Remote, one_per_kind());
    fixture.execute_and_apply(id, &cancel(None));
    fixture.execute_and_apply(id, &retry());
    assert_eq!(fixture.next(), None);
    fixture.execute(id, &start("w"));
    fixture.in_flight.started_remote(&mut fixture.queue, id);
    fixture.apply_new_events();
    fixture.execute_and_apply(id, &succeed(1, "done"));
    let another = fixture.task(|_| {});
    assert_eq!(fixture.next(), Some(another), "the limit of the kind counts no attempt that has ended");
}

#[test]
fn the_turn_counts_against_the_limit_until_the_event_does_whichever_comes_first() {
    for answer_first in [true, false] {
        let (mut fixture, id) = starting(Executor::Remote, one_per_kind());
        let other = fixture.task(|_| {});
        fixture.execute(id, &start("w"));
        if answer_first {
            fixture.in_flight.started_remote(&mut fixture.queue, id);
            assert_eq!(fixture.next(), None);
            fixture.apply_new_events();
        } else {
            fixture.apply_new_events();
            assert_eq!(fixture.next(), None);
            fixture.in_flight.started_remote(&mut fixture.queue, id);
        }
        assert_eq!(fixture.next(), None, "one of the kind runs");
        fixture.execute_and_apply(id, &succeed(1, "done"));
        assert_eq!(fixture.next(), Some(other));
    }
}

#[test]
fn the_next_attempt_waits_until_the_code_of_the_former_one_has_stopped_here() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.execute(id, &start(LOCAL));
    fixture.in_flight.started_local(id, 1);
    fixture.apply_new_events();
    fixture.execute_and_apply(id, &succeed(1, "done"));
    fixture.execute_and_apply(id, &retry());
    assert_eq!(fixture.next(), None, "no worker gets it: the code of attempt 1 still runs in this process");
    assert_eq!(fixture.in_flight.slots_in_use(), 1);
    fixture.stopped(id);
    assert_eq!(fixture.in_flight.slots_in_use(), 0);
    assert_eq!(fixture.next(), Some(id));
}

#[test]
fn an_attempt_that_stops_before_its_events_arrive_leaves_the_limits_right() {
    let (mut fixture, id) = starting(Executor::LocalSlot, one_per_kind());
    let other = fixture.task(|_| {});
    fixture.execute(id, &start(LOCAL));
    fixture.in_flight.started_local(id, 1);
    fixture.execute(id, &fail(1, "broken", false));
    fixture.stopped(id);
    assert_eq!(fixture.next(), None, "for the limits it runs until its events say otherwise");
    fixture.apply_new_events();
    assert_eq!(fixture.next(), Some(other));
}

#[test]
fn a_start_that_could_not_be_written_returns_to_its_position() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    let later = fixture.task(|_| {});
    fixture.not_written(id);
    assert_eq!(fixture.all(), [id, later]);
}

#[test]
fn a_start_that_could_not_be_written_for_a_task_that_was_cancelled_meanwhile_is_gone() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.execute_and_apply(id, &cancel(None));
    fixture.not_written(id);
    assert_eq!(fixture.next(), None);
}

#[test]
fn a_directive_waits_for_the_hand_over_of_its_attempt() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    assert_eq!(fixture.in_flight.route_directive(id, Directive::Cancel), None);
    assert_eq!(fixture.in_flight.started_local(id, 1), [Directive::Cancel]);
    assert_eq!(fixture.in_flight.route_directive(id, Directive::Interrupt), Some(1));
}

#[test]
fn a_directive_for_a_former_run_is_not_handed_over() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.in_flight.route_directive(id, Directive::Cancel);
    fixture.in_flight.drop_directives(id);
    assert!(fixture.in_flight.started_local(id, 1).is_empty());
}

#[test]
fn after_events_were_missed_a_directive_that_may_be_for_a_former_run_is_not_handed_over() {
    let (mut fixture, id) = starting(Executor::LocalSlot, Limits::default());
    fixture.in_flight.route_directive(id, Directive::Cancel);
    fixture.in_flight.forget_held_positions();
    assert!(fixture.in_flight.started_local(id, 1).is_empty());
}

#[test]
fn an_attempt_elsewhere_gets_no_directive_from_this_table() {
    let (mut fixture, id) = starting(Executor::Remote, Limits::default());
    assert_eq!(fixture.in_flight.route_directive(id, Directive::Cancel), None);
    assert_eq!(fixture.in_flight.executing().count(), 0);
}

#[test]
fn after_the_run_queue_was_made_anew_each_queued_task_is_taken_once_and_the_limits_hold() {
    let (mut fixture, id) = starting(Executor::Remote, one_per_kind());
    let other = fixture.task(|_| {});
    fixture.in_flight.forget_held_positions();
    fixture.queue = fixture.queue.new_with_same_limits();
    for row in fixture.views.rows() {
        fixture.queue.apply_change(None, &row, None);
    }
    assert_eq!(fixture.next(), None, "the start of the first is not answered, and the limit is one");
    fixture.execute(id, &start("w"));
    fixture.in_flight.started_remote(&mut fixture.queue, id);
    fixture.apply_new_events();
    assert_eq!(fixture.next(), None);
    fixture.execute_and_apply(id, &succeed(1, "done"));
    assert_eq!(fixture.all(), [other]);
}
