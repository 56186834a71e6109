//! The lease as a fence: only the holder of the running attempt's lease may end the attempt, and only once. A repeated
//! report gets the same response.

use taskbell::task::event::{OutputKept, QueuedReason::RetryAt, SYSTEM_ERROR_CODES};
use taskbell::task::limits::Invalid;

use super::*;

/// A remote worker reports the end of an attempt, with the lease of the attempt `shown`.
fn report(attempt: u32, shown: u32, end: AttemptEnd) -> Command {
    Command::Finish { attempt, lease_hash: Some(lease(shown)), end, progress: None, output: None }
}

/// The same with the attempt's output. `decide` sets the attempt of the output.
fn report_with_output(attempt: u32, end: AttemptEnd) -> Command {
    let output = Some(OutputKept { attempt: 0, tail: "bye".into(), dropped_bytes: 7 });
    Command::Finish { attempt, lease_hash: Some(lease(attempt)), end, progress: None, output }
}

fn kept(attempt: u32) -> Event {
    Event::OutputKept(OutputKept { attempt, tail: "bye".into(), dropped_bytes: 7 })
}

fn acknowledge_as(attempt: u32, shown: u32) -> Command {
    let lease = Some(lease(shown));
    Command::AcknowledgeCancel { attempt, lease_hash: lease, stopping_after: None, expected_end: None }
}

fn with(mut events: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.extend(more);
    events
}

fn system_error(code: &str) -> TaskError {
    TaskError { code: code.into(), message: "too late".into() }
}

/// A history in which the first attempt failed with this error, and the second runs.
fn second_after(error: TaskError) -> Vec<Event> {
    let failed = AttemptFailed { attempt: 1, error, retry_at: retry_at(1, now(), &lease(1)), progress: None };
    with(running(), [Event::AttemptFailed(failed), became_ready(RetryAt), started(2)])
}

fn not_delivered() -> Event {
    Event::Released(Released { attempt: 1, reason: ReleasedReason::NotDelivered })
}

fn ended_by(error: TaskError) -> Event {
    Event::Completed(Completed { error: Some(error), ..completed(Outcome::Failed, Some(1)) })
}

sentences! {
    the_holder_of_the_secret_ends_the_attempt: given(running()).when(report(1, 1, success())).then([succeeded_by(1)]);
    a_report_with_another_secret_is_rejected: given(running()).when(report(1, 2, success())).rejects(Rejection::LeaseLost);
    a_secret_is_valid_for_its_own_attempt_only:
        given(second_after(broken())).when(report(2, 1, success())).rejects(Rejection::LeaseLost);
    a_report_about_a_future_attempt_is_rejected: given(running()).when(report(2, 1, success())).rejects(Rejection::LeaseLost);
    a_task_that_never_ran_has_no_secret: given(queued()).when(report(0, 0, success())).rejects(Rejection::LeaseLost);
    an_unknown_task_can_not_be_ended: given([]).when(report(1, 1, success())).rejects(Rejection::NotFound);

    an_end_that_is_reported_twice_is_recorded_once: given(succeeded()).when(report(1, 1, success())).then_nothing();
    another_end_that_is_reported_later_changes_nothing: given(succeeded()).when(report(1, 1, failure())).then_nothing();
    handing_back_a_finished_attempt_changes_nothing: given(succeeded()).when(report(1, 1, handed_back())).then_nothing();
    a_report_of_having_stopped_after_the_end_changes_nothing: given(failed()).when(report(1, 1, stopped())).then_nothing();
    the_output_of_an_end_that_is_reported_twice_is_kept_once:
        given(succeeded()).when(report_with_output(1, success())).then_nothing();
    a_reserved_code_reported_after_the_end_changes_nothing:
        given(succeeded()).when(report(1, 1, AttemptEnd::Failed { error: system_error("timed_out"), retryable: true })).then_nothing();
    a_report_from_another_worker_is_rejected: given(succeeded()).when(report(1, 2, success())).rejects(Rejection::LeaseLost);
    the_end_of_a_former_attempt_can_be_reported_again_while_the_next_one_runs:
        given(second_after(broken())).when(report(1, 1, success())).then_nothing();
    the_end_of_a_former_run_can_be_reported_again_in_the_next_one:
        given(with(succeeded(), [retried(), started(2)])).when(report(1, 1, failure())).then_nothing();
    an_attempt_can_be_handed_back_twice:
        given(with(running(), [released(1), started(2)])).when(report(1, 1, handed_back())).then_nothing();

    an_end_after_the_lease_has_expired_is_too_late:
        given(second_after(lost())).when(report(1, 1, success())).rejects(Rejection::LeaseLost);
    an_end_after_the_time_is_over_is_too_late:
        given(with(running(), [ended_by(system_error("timed_out"))])).when(report(1, 1, success())).rejects(Rejection::LeaseLost);
    an_end_after_a_revoke_is_too_late:
        given(with(cancelling(), [escalated(Rung::Revoke), forced(1, None)]))
            .when(report(1, 1, stopped())).rejects(Rejection::LeaseLost);
    a_lease_that_never_arrived_ends_nothing:
        given(with(running(), [not_delivered()])).when(report(1, 1, success())).rejects(Rejection::LeaseLost);

    a_worker_can_not_stop_for_a_request_that_was_not_made:
        given(running()).when(report(1, 1, stopped())).rejects(Rejection::NotCancelling);
    a_worker_can_not_acknowledge_a_request_that_was_not_made: given(running()).when(acknowledge_as(1, 1)).rejects(Rejection::NotCancelling);
    a_worker_without_the_lease_can_not_acknowledge: given(cancelling()).when(acknowledge_as(1, 2)).rejects(Rejection::LeaseLost);
    a_lost_lease_is_reported_before_a_missing_request: given(running()).when(acknowledge_as(1, 2)).rejects(Rejection::LeaseLost);
    the_holder_of_the_lease_can_acknowledge: given(cancelling()).when(acknowledge_as(1, 1)).then([acknowledged(1, None)]);

    output_is_kept_before_the_end:
        given(running()).when(report_with_output(1, success())).then([kept(1), succeeded_by(1)]);
    output_is_kept_with_a_failure_that_is_retried:
        given(running()).when(report_with_output(1, failure())).then([kept(1), attempt_failed(1, 1)]);
    output_is_kept_with_an_attempt_that_is_handed_back:
        given(running()).when(report_with_output(1, handed_back())).then([kept(1), released(1)]);
    output_is_kept_with_a_cancel: given(cancelling()).when(report_with_output(1, stopped())).then([kept(1), cancelled_by(1)]);
    output_is_not_kept_where_the_end_is_rejected:
        given(running()).when(report_with_output(1, stopped())).rejects(Rejection::NotCancelling);
}

#[test]
fn no_worker_outside_the_process_can_report_a_code_of_the_system() {
    for code in SYSTEM_ERROR_CODES {
        let end = AttemptEnd::Failed { error: system_error(code), retryable: true };
        for history in [running(), cancelling()] {
            let decided = given(history).when(report(1, 1, end.clone()));
            let Decided(_, Err(Rejection::Invalid(invalid))) = decided else { panic!("{code} is taken") };
            let pointers: Vec<&str> = invalid.iter().map(|Invalid { pointer, .. }| &**pointer).collect();
            assert_eq!(pointers, ["/error/code"]);
        }
    }
}

#[test]
fn the_worker_inside_the_process_reports_a_timeout_itself() {
    let end = AttemptEnd::Failed { error: system_error("timed_out"), retryable: true };
    given(with(vec![created_with(|new| new.max_attempts = 1)], [started(1)]))
        .when(finish(1, end))
        .then([ended_by(system_error("timed_out"))]);
}

#[test]
fn a_worker_learns_how_its_attempt_ended_whatever_happened_later() {
    let after = |events: Vec<Event>| fold(None, &events).unwrap().status_after_reported_end(1, &lease(1));
    assert_eq!(after(running()), None, "it runs");
    assert_eq!(after(succeeded()), Some(Status::Succeeded));
    assert_eq!(after(with(succeeded(), [retried(), started(2), failed_by(2)])), Some(Status::Succeeded));
    assert_eq!(after(failed()), Some(Status::Failed));
    assert_eq!(after(cancelled()), Some(Status::Cancelled));
    assert_eq!(after(second_after(broken())), Some(Status::Retrying));
    assert_eq!(after(with(running(), [released(1), started(2), succeeded_by(2)])), Some(Status::Queued));
    for ended_by_others in [
        second_after(lost()),
        with(running(), [not_delivered()]),
        with(running(), [ended_by(lost())]),
        with(cancelling(), [forced(1, Some(lost()))]),
        with(cancelling(), [escalated(Rung::Revoke), forced(1, None)]),
    ] {
        assert_eq!(after(ended_by_others.clone()), None, "{ended_by_others:?}");
    }
    let task = fold(None, &succeeded()).unwrap();
    assert_eq!(
        (task.status_after_reported_end(1, &lease(2)), task.status_after_reported_end(2, &lease(1))),
        (None, None)
    );
}

#[test]
fn a_worker_that_reports_one_step_after_the_other_does_not_fill_the_log() {
    let mut task = fold(None, &cancelling());
    let mut recorded = 0;
    for n in 0..300 {
        let stopping_after = Some(format!("step {n}"));
        let command = Command::AcknowledgeCancel { attempt: 1, lease_hash: None, stopping_after, expected_end: None };
        let events = decide(task.as_ref(), &command, now()).unwrap();
        recorded += events.len();
        task = fold(task, &events);
    }
    assert_eq!(recorded, 100);
}

#[test]
fn an_end_that_is_repeated_after_a_hundred_others_is_answered_with_a_lost_lease() {
    let handed_back = |n| [started(n), released(n)];
    let events: Vec<Event> = [created()].into_iter().chain((1..=101).flat_map(handed_back)).collect();
    let task = fold(None, &events);
    let again = |n| decide(task.as_ref(), &report(n, n, AttemptEnd::Released(ReleasedReason::HandedBack)), now());
    assert_eq!(again(1), Err(Rejection::LeaseLost));
    assert_eq!(again(101), Ok(Vec::new()));
}
