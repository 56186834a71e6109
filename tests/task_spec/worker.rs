//! The rules for workers: attempts, leases, pauses and runs.

use std::sync::Arc;

use taskbell::task::event::QueuedReason::{RetryAt, RunAt};

use super::*;

/// `created` with this bound, then this many failed attempts, each followed by its `Queued`.
fn after_failures(max_attempts: u32, failures: u32) -> Vec<Event> {
    let mut events = vec![created_with(|new| new.max_attempts = max_attempts)];
    for n in 1..=failures {
        events.extend([started(n), attempt_failed(n, n), became_ready(RetryAt)]);
    }
    events
}

fn with(mut events: Vec<Event>, more: impl IntoIterator<Item = Event>) -> Vec<Event> {
    events.extend(more);
    events
}

sentences! {
    a_past_run_at_is_recorded_as_null:
        given([]).when(Command::Create(Arc::new(Created { run_at: Some("2026-11-22T15:04:04.999999Z".parse().unwrap()), ..work() })))
            .then([created()]);
    a_run_at_of_now_is_recorded_as_null:
        given([]).when(Command::Create(Arc::new(Created { run_at: Some(now()), ..work() }))).then([created()]);
    a_run_at_in_the_future_is_kept:
        given([]).when(Command::Create(Arc::new(Created { run_at: Some(after(1)), ..work() })))
            .then([created_with(|new| new.run_at = Some(after(1)))]);
    the_numbers_of_attempts_continue_after_a_failure:
        given(after_failures(3, 1)).when(start(2)).then([started(2)]);
    the_numbers_of_attempts_continue_after_a_release:
        given(with(running(), [released(1)])).when(start(2)).then([started(2)]);
    the_numbers_of_attempts_continue_after_another_run:
        given(with(succeeded(), [retried()])).when(start(2)).then([started(2)]);
    the_last_attempt_ends_by_completed_alone_with_its_error:
        given(with(after_failures(3, 2), [started(3)])).when(finish(3, failure())).then([failed_by(3)]);
    the_last_but_one_attempt_is_followed_by_another:
        given(with(after_failures(3, 1), [started(2)])).when(finish(2, failure())).then([attempt_failed(2, 2)]);
    a_task_with_one_attempt_is_executed_at_most_once:
        given(with(after_failures(1, 0), [started(1)])).when(finish(1, failure())).then([failed_by(1)]);
    a_lost_worker_of_the_last_attempt_fails_the_task:
        given(with(after_failures(1, 0), [started(1)])).when(lose(1)).then([Event::Completed(Completed {
            error: Some(lost()), ..completed(Outcome::Failed, Some(1))
        })]);
    a_failure_that_is_not_retryable_is_not_retried:
        given(running()).when(finish(1, AttemptEnd::Failed { error: broken(), retryable: false })).then([failed_by(1)]);
    a_release_does_not_count_as_an_attempt:
        given(with(after_failures(2, 0), [started(1), released(1), started(2)]))
            .when(finish(2, failure())).then([attempt_failed(2, 1)]);
    a_hundred_releases_do_not_count:
        given(with(after_failures(1, 0), (1..=100).flat_map(|n| [started(n), released(n)]).chain([started(101)])))
            .when(finish(101, success())).then([succeeded_by(101)]);
    a_release_after_a_failure_subtracts_its_own_attempt_only:
        given(with(after_failures(2, 1), [started(2), released(2), started(3)]))
            .when(finish(3, failure())).then([failed_by(3)]);
    max_attempts_is_counted_from_zero_in_another_run:
        given(with(after_failures(2, 1), [started(2), failed_by(2), retried(), started(3)]))
            .when(finish(3, failure())).then([attempt_failed(3, 1)]);
    a_report_about_a_former_attempt_is_rejected:
        given(with(after_failures(3, 1), [started(2)])).when(finish(1, success())).rejects(Rejection::LeaseLost);
    a_report_about_a_future_attempt_is_rejected:
        given(running()).when(finish(2, success())).rejects(Rejection::LeaseLost);
    the_timer_of_a_former_attempt_does_nothing:
        given(with(after_failures(3, 1), [started(2)])).when(lose(1)).then_nothing();
    the_timer_of_a_former_run_does_nothing:
        given(with(succeeded(), [retried(), started(2)])).when(lose(1)).then_nothing();
    the_timer_of_a_former_pause_does_nothing:
        given(with(after_failures(3, 1), [started(2), attempt_failed(2, 2)])).when_at(after(1), enqueue(RetryAt)).then_nothing();
    a_task_that_ran_is_never_scheduled_again:
        given(with(scheduled(), [became_ready(RunAt), started(1), succeeded_by(1), retried()]))
            .when_at(after(60), enqueue(RunAt)).then_nothing();
    the_last_progress_is_kept_with_the_end:
        given(running()).when(Command::Finish { attempt: 1, lease_hash: None, end: success(), progress: Some(halfway()), output: None })
            .then([Event::Completed(Completed { progress: Some(halfway()), ..completed(Outcome::Succeeded, Some(1)) })]);
    the_last_progress_is_kept_with_a_failure:
        given(running()).when(Command::LoseAttempt { attempt: 1, error: broken(), progress: Some(halfway()) })
            .then([Event::AttemptFailed(AttemptFailed {
                attempt: 1, error: broken(), retry_at: retry_at(1, now(), &lease(1)), progress: Some(halfway())
            })]);
    a_result_of_null_is_no_result:
        given(running()).when(finish(1, AttemptEnd::Succeeded { message: None, result: Some(json!(null).into()) })).then([succeeded_by(1)]);
}

#[test]
fn the_pause_doubles_from_a_second_to_five_minutes_give_or_take_a_fifth() {
    for failed in 1..=40_u32 {
        let pause = Duration::from_secs(1).saturating_mul(1 << (failed - 1).min(20)).min(Duration::from_mins(5));
        for micros in (0..1_000_000).step_by(997) {
            let now = now().plus(Duration::from_micros(micros));
            let waits = retry_at(failed, now, &lease(failed)).since(now);
            assert!(
                (pause.mul_f64(0.8)..=pause.mul_f64(1.2)).contains(&waits),
                "{waits:?} after {failed} failures, at {now}; it should be {pause:?} ± 20 %"
            );
        }
    }
}

#[test]
fn a_thousand_attempts_that_failed_in_one_instant_do_not_start_together() {
    let pauses: std::collections::BTreeSet<_> = (0..1000).map(|n| retry_at(1, now(), &lease(n))).collect();
    assert!(pauses.len() > 990, "only {} different instants", pauses.len());
    let (first, last) = (pauses.first().unwrap(), pauses.last().unwrap());
    assert!(last.since(*first) > Duration::from_millis(350), "they should fill the window: {first} to {last}");
}

#[test]
fn another_run_clears_the_request_to_cancel_and_the_pause() {
    let task = fold(None, &with(cancelled(), [retried()])).unwrap();
    assert_eq!((task.status, task.cancel, task.retry_at), (Status::Queued, None, None));
    assert_eq!((task.attempt, task.attempts_in_run), (1, 0));
}
