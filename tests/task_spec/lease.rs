//! The fence: who shows the secret of the attempt that runs may end it, once; what is said again is answered the same.

use taskbell::task::event::{OutputKept, QueuedReason::RetryAt, VERDICTS_OF_THE_SYSTEM};
use taskbell::task::limits::Invalid;

use super::*;

/// The end of an attempt by a worker outside the process, who shows the secret of `shown`.
fn word(attempt: u32, shown: u32, end: End) -> Command {
    Command::Finish { attempt, lease: Some(lease(shown)), end, progress: None, output: None }
}

/// The same with what it wrote; the edge doesn't have to fill in the attempt.
fn word_with_output(attempt: u32, end: End) -> Command {
    let output = Some(OutputKept { attempt: 0, tail: "bye".into(), dropped_bytes: 7 });
    Command::Finish { attempt, lease: Some(lease(attempt)), end, progress: None, output }
}

fn kept(attempt: u32) -> Event {
    Event::OutputKept(OutputKept { attempt, tail: "bye".into(), dropped_bytes: 7 })
}

fn heard(attempt: u32, shown: u32) -> Command {
    let lease = Some(lease(shown));
    Command::AcknowledgeCancel { attempt, lease, stopping_after: None, expected_end: None }
}

fn with(mut events: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.extend(more);
    events
}

fn verdict(code: &str) -> TaskError {
    TaskError { code: code.into(), message: "by the clock".into() }
}

/// The first attempt failed, by its worker's word or by the system's, and the second runs.
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
    who_shows_its_secret_ends_its_attempt: given(running()).when(word(1, 1, success())).then([succeeded_by(1)]);
    who_shows_another_secret_ends_nothing: given(running()).when(word(1, 2, success())).rejects(Rejection::LeaseLost);
    a_secret_fits_its_own_attempt_only:
        given(second_after(broken())).when(word(2, 1, success())).rejects(Rejection::LeaseLost);
    an_attempt_to_come_has_no_secret_yet: given(running()).when(word(2, 1, success())).rejects(Rejection::LeaseLost);
    a_task_that_never_ran_has_none: given(queued()).when(word(0, 0, success())).rejects(Rejection::LeaseLost);
    what_is_not_there_can_not_be_ended: given([]).when(word(1, 1, success())).rejects(Rejection::NotFound);

    an_end_that_is_said_again_is_recorded_once: given(succeeded()).when(word(1, 1, success())).then_nothing();
    another_end_that_is_said_later_changes_nothing: given(succeeded()).when(word(1, 1, failure())).then_nothing();
    handing_back_what_is_done_changes_nothing: given(succeeded()).when(word(1, 1, handed_back())).then_nothing();
    to_have_stopped_after_the_end_changes_nothing: given(failed()).when(word(1, 1, stopped())).then_nothing();
    what_is_kept_of_an_end_that_is_said_again_is_not_kept_again:
        given(succeeded()).when(word_with_output(1, success())).then_nothing();
    a_reserved_code_said_after_the_end_changes_nothing:
        given(succeeded()).when(word(1, 1, End::Failed { error: verdict("timed_out"), retryable: true })).then_nothing();
    whoever_else_says_it_is_refused: given(succeeded()).when(word(1, 2, success())).rejects(Rejection::LeaseLost);
    an_end_of_a_former_attempt_is_said_again_while_the_next_one_runs:
        given(second_after(broken())).when(word(1, 1, success())).then_nothing();
    an_end_of_a_former_run_is_said_again_in_the_next_one:
        given(with(succeeded(), [retried(), started(2)])).when(word(1, 1, failure())).then_nothing();
    what_was_handed_back_is_handed_back_again_without_harm:
        given(with(running(), [released(1), started(2)])).when(word(1, 1, handed_back())).then_nothing();

    an_end_after_the_lease_has_expired_is_too_late:
        given(second_after(lost())).when(word(1, 1, success())).rejects(Rejection::LeaseLost);
    an_end_after_the_time_is_over_is_too_late:
        given(with(running(), [ended_by(verdict("timed_out"))])).when(word(1, 1, success())).rejects(Rejection::LeaseLost);
    an_end_after_a_revoke_is_too_late:
        given(with(cancelling(), [escalated(Rung::Revoke), forced(1, None)]))
            .when(word(1, 1, stopped())).rejects(Rejection::LeaseLost);
    a_lease_that_never_arrived_ends_nothing:
        given(with(running(), [not_delivered()])).when(word(1, 1, success())).rejects(Rejection::LeaseLost);

    nobody_stops_because_of_a_request_that_was_not_made:
        given(running()).when(word(1, 1, stopped())).rejects(Rejection::NotCancelling);
    nobody_hears_a_request_that_was_not_made: given(running()).when(heard(1, 1)).rejects(Rejection::NotCancelling);
    who_holds_nothing_hears_nothing: given(cancelling()).when(heard(1, 2)).rejects(Rejection::LeaseLost);
    who_holds_nothing_is_told_so_first: given(running()).when(heard(1, 2)).rejects(Rejection::LeaseLost);
    who_holds_it_hears_it: given(cancelling()).when(heard(1, 1)).then([acknowledged(1, None)]);

    what_was_written_is_kept_before_the_end:
        given(running()).when(word_with_output(1, success())).then([kept(1), succeeded_by(1)]);
    it_is_kept_with_a_failure_that_is_tried_again:
        given(running()).when(word_with_output(1, failure())).then([kept(1), attempt_failed(1, 1)]);
    it_is_kept_with_what_is_handed_back:
        given(running()).when(word_with_output(1, handed_back())).then([kept(1), released(1)]);
    it_is_kept_with_a_cancel: given(cancelling()).when(word_with_output(1, stopped())).then([kept(1), cancelled_by(1)]);
    it_is_not_kept_where_the_end_is_refused:
        given(running()).when(word_with_output(1, stopped())).rejects(Rejection::NotCancelling);
}

#[test]
fn the_systems_own_verdicts_are_nobody_elses_words() {
    for code in VERDICTS_OF_THE_SYSTEM {
        let end = End::Failed { error: verdict(code), retryable: true };
        for history in [running(), cancelling()] {
            let decided = given(history).when(word(1, 1, end.clone()));
            let Decided(_, Err(Rejection::Invalid(invalid))) = decided else { panic!("{code} is taken") };
            let pointers: Vec<&str> = invalid.iter().map(|Invalid { pointer, .. }| &**pointer).collect();
            assert_eq!(pointers, ["/error/code"]);
        }
    }
}

#[test]
fn the_worker_inside_the_process_says_that_the_time_is_over() {
    let end = End::Failed { error: verdict("timed_out"), retryable: true };
    given(with(vec![created_with(|new| new.max_attempts = 1)], [started(1)]))
        .when(finish(1, end))
        .then([ended_by(verdict("timed_out"))]);
}

#[test]
fn a_worker_is_told_how_its_attempt_ended_whatever_came_after() {
    let after = |events: Vec<Event>| fold(None, &events).unwrap().ended_by_its_worker(1, &lease(1));
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
    assert_eq!((task.ended_by_its_worker(1, &lease(2)), task.ended_by_its_worker(2, &lease(1))), (None, None));
}

#[test]
fn a_worker_that_never_comes_to_an_end_of_its_steps_fills_nobodys_log() {
    let mut task = fold(None, &cancelling());
    let mut recorded = 0;
    for n in 0..300 {
        let stopping_after = Some(format!("step {n}"));
        let command = Command::AcknowledgeCancel { attempt: 1, lease: None, stopping_after, expected_end: None };
        let events = decide(task.as_ref(), &command, now()).unwrap();
        recorded += events.len();
        task = fold(task, &events);
    }
    assert_eq!(recorded, 100);
}

#[test]
fn an_end_that_is_repeated_after_a_hundred_others_is_told_that_its_lease_is_lost() {
    let handed_back = |n| [started(n), released(n)];
    let events: Vec<Event> = [created()].into_iter().chain((1..=101).flat_map(handed_back)).collect();
    let task = fold(None, &events);
    let again = |n| decide(task.as_ref(), &word(n, n, End::Released(ReleasedReason::HandedBack)), now());
    assert_eq!(again(1), Err(Rejection::LeaseLost));
    assert_eq!(again(101), Ok(Vec::new()));
}
