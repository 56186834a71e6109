//! The cancel ladder: one request to cancel, and one end. The field `verdict` at how the cancel ended, for example
//! whether the work was complete first.

use taskbell::task::event::Rung::{Ask, Interrupt, Revoke};

use super::*;

sentences! {
    a_cancel_between_two_attempts_ends_no_attempt_a_second_time:
        given([retrying(), vec![became_ready(QueuedReason::RetryAt)]].concat())
            .when(cancel()).then([cancel_requested(), cancelled_waiting(None)]);
    a_cancel_after_a_release_ends_no_attempt_a_second_time:
        given([running(), vec![released(1)]].concat()).when(cancel()).then([cancel_requested(), cancelled_waiting(None)]);
    a_cancel_of_a_second_run_that_has_not_started_ends_no_attempt_of_the_first:
        given([failed(), vec![retried()]].concat()).when(cancel()).then([cancel_requested(), cancelled_waiting(None)]);
    a_second_run_may_be_cancelled_again:
        given([cancelled(), vec![retried(), started(2)]].concat()).when(cancel()).then([cancel_requested()]);
    a_failure_after_a_request_is_not_retried_though_attempts_are_left:
        given(cancelling()).when(finish(1, AttemptEnd::Failed { error: broken(), retryable: true })).then([failed_by(1)]);
    a_timeout_after_a_request_ends_it_by_force:
        given(cancelling()).when(Command::LoseAttempt { attempt: 1, error: timed_out(), progress: Some(halfway()) })
            .then([Event::Completed(Completed {
                error: Some(timed_out()), forced: true, progress: Some(halfway()), ..completed(Outcome::Cancelled, Some(1))
            })]);
    a_late_success_after_a_revoke_is_too_late:
        given([cancelling(), vec![escalated(Revoke), forced(1, None)]].concat())
            .when(finish(1, success())).rejects(Rejection::LeaseLost);
    the_same_acknowledgement_twice_is_one_event:
        given([cancelling(), vec![acknowledged(1, Some("b.mp4"))]].concat())
            .when(acknowledge(1, Some("b.mp4"))).then_nothing();
    stopping_at_once_twice_is_one_event:
        given([cancelling(), vec![acknowledged(1, None)]].concat()).when(acknowledge(1, None)).then_nothing();
    another_step_is_another_acknowledgement:
        given([cancelling(), vec![acknowledged(1, Some("b.mp4"))]].concat())
            .when(acknowledge(1, Some("c.mp4"))).then([acknowledged(1, Some("c.mp4"))]);
    an_acknowledgement_of_a_former_attempt_is_rejected:
        given([retrying(), vec![became_ready(QueuedReason::RetryAt), started(2), cancel_requested()]].concat())
            .when(acknowledge(1, None)).rejects(Rejection::LeaseLost);
    a_rung_that_is_reached_is_not_reached_again:
        given([cancelling(), vec![escalated(Interrupt)]].concat()).when(escalate(Interrupt)).then_nothing();
    a_request_stands_on_the_rung_ask: given(cancelling()).when(escalate(Ask)).then_nothing();
    revoke_comes_after_interrupt:
        given([cancelling(), vec![escalated(Interrupt)]].concat())
            .when(escalate(Revoke)).then([escalated(Revoke), forced(1, None)]);
    an_acknowledged_request_can_be_escalated:
        given([cancelling(), vec![acknowledged(1, Some("b.mp4"))]].concat())
            .when(escalate(Interrupt)).then([escalated(Interrupt)]);
    a_rung_of_a_former_attempt_does_nothing:
        given([cancelled(), vec![retried(), started(2), cancel_requested()]].concat())
            .when(next_rung(Revoke, 1)).then_nothing();
    a_new_request_begins_at_the_lowest_rung:
        given([cancelling(), vec![escalated(Interrupt), cancelled_by(1), retried(), started(2), cancel_requested()]].concat())
            .when(escalate(Interrupt)).then([escalated(Interrupt)]);
}

fn timed_out() -> TaskError {
    TaskError { code: "timed_out".into(), message: "longer than 60 s".into() }
}

#[test]
fn two_hundred_cancels_are_one_request() {
    let mut state = fold(None, &running());
    let mut all = Vec::new();
    for n in 0..200 {
        let ask = Command::RequestCancel { reason: Some(format!("{n}")), policy: CancelLadder::default() };
        let events = decide(state.as_ref(), &ask, now()).unwrap();
        state = fold(state, &events);
        all.extend(events);
    }
    let first = CancelRequested { reason: text("0"), policy: CancelLadder::default() };
    assert_eq!(all, [Event::CancelRequested(first)]);
}

#[test]
fn the_policy_in_force_is_the_one_of_the_request() {
    let policy = CancelLadder { ask_for_ms: Some(30_000), interrupt_for_ms: None };
    let requested = Event::CancelRequested(CancelRequested { reason: None, policy });
    given(running()).when(Command::RequestCancel { reason: None, policy }).then([requested.clone()]);
    let task = fold(None, &[running(), vec![requested]].concat()).unwrap();
    assert_eq!(task.cancel.unwrap().policy, policy);
}

#[test]
fn the_worker_reports_what_was_done_in_its_message() {
    let end = AttemptEnd::Cancelled { message: text("1 of 2 files copied"), result: Some(json!({"files": 1}).into()) };
    let recorded = Completed {
        message: text("1 of 2 files copied"),
        result: Some(json!({"files": 1}).into()),
        progress: Some(halfway()),
        ..completed(Outcome::Cancelled, Some(1))
    };
    let finish = Command::Finish { attempt: 1, lease_hash: None, end, progress: Some(halfway()), output: None };
    given(cancelling()).when(finish).then([Event::Completed(recorded)]);
}
