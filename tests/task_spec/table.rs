//! The state table: every status with every command, legal or not.

use taskbell::task::Rejection::{AlreadyExists, LeaseLost, NotCancelling, NotFinal, NotFound, NotQueued};
use taskbell::task::event::QueuedReason::{RetryAt, RunAt};
use taskbell::task::event::Rung::{Interrupt, Revoke};

use super::*;

const UNSTARTED: Option<&str> = Some("cancelled before it started");

mod no_task {
    use super::*;
    sentences! {
        is_created: given([]).when(create()).then([created()]);
        cannot_become_ready: given([]).when(enqueue(RunAt)).rejects(NotFound);
        cannot_start: given([]).when(start(1)).rejects(NotFound);
        cannot_be_cancelled: given([]).when(cancel()).rejects(NotFound);
        hears_no_acknowledgement: given([]).when(acknowledge(1, None)).rejects(NotFound);
        cannot_be_escalated: given([]).when(escalate(Interrupt)).rejects(NotFound);
        has_no_next_rung: given([]).when(next_rung(Interrupt, 1)).rejects(NotFound);
        cannot_finish: given([]).when(finish(1, success())).rejects(NotFound);
        cannot_be_lost: given([]).when(lose(1)).rejects(NotFound);
        cannot_run_again: given([]).when(retry()).rejects(NotFound);
    }
}

mod a_scheduled_task {
    use super::*;
    sentences! {
        is_not_created_again: given(scheduled()).when(create()).rejects(AlreadyExists);
        is_queued_when_its_time_has_come: given(scheduled()).when_at(after(60), enqueue(RunAt)).then([became_ready(RunAt)]);
        waits_while_its_time_has_not_come: given(scheduled()).when_at(after(59), enqueue(RunAt)).then_nothing();
        waits_for_no_retry: given(scheduled()).when_at(after(60), enqueue(RetryAt)).then_nothing();
        cannot_start: given(scheduled()).when(start(1)).rejects(NotQueued);
        is_cancelled_at_once: given(scheduled()).when(cancel()).then([cancel_requested(), cancelled_waiting(UNSTARTED)]);
        hears_no_acknowledgement: given(scheduled()).when(acknowledge(1, None)).rejects(LeaseLost);
        cannot_be_escalated: given(scheduled()).when(escalate(Revoke)).rejects(NotCancelling);
        has_no_next_rung: given(scheduled()).when(next_rung(Revoke, 1)).then_nothing();
        cannot_succeed: given(scheduled()).when(finish(1, success())).rejects(LeaseLost);
        cannot_fail: given(scheduled()).when(finish(1, failure())).rejects(LeaseLost);
        cannot_stop: given(scheduled()).when(finish(1, stopped())).rejects(LeaseLost);
        cannot_be_handed_back: given(scheduled()).when(finish(1, handed_back())).rejects(LeaseLost);
        cannot_be_lost: given(scheduled()).when(lose(1)).then_nothing();
        cannot_run_again: given(scheduled()).when(retry()).rejects(NotFinal);
    }
}

mod a_queued_task {
    use super::*;
    sentences! {
        is_not_created_again: given(queued()).when(create()).rejects(AlreadyExists);
        waits_for_no_time: given(queued()).when(enqueue(RunAt)).then_nothing();
        waits_for_no_retry: given(queued()).when(enqueue(RetryAt)).then_nothing();
        starts: given(queued()).when(start(1)).then([started(1)]);
        is_cancelled_at_once: given(queued()).when(cancel()).then([cancel_requested(), cancelled_waiting(UNSTARTED)]);
        hears_no_acknowledgement: given(queued()).when(acknowledge(1, None)).rejects(LeaseLost);
        cannot_be_escalated: given(queued()).when(escalate(Interrupt)).rejects(NotCancelling);
        has_no_next_rung: given(queued()).when(next_rung(Interrupt, 1)).then_nothing();
        cannot_succeed: given(queued()).when(finish(1, success())).rejects(LeaseLost);
        cannot_fail: given(queued()).when(finish(1, failure())).rejects(LeaseLost);
        cannot_stop: given(queued()).when(finish(1, stopped())).rejects(LeaseLost);
        cannot_be_handed_back: given(queued()).when(finish(1, handed_back())).rejects(LeaseLost);
        cannot_be_lost: given(queued()).when(lose(1)).then_nothing();
        cannot_run_again: given(queued()).when(retry()).rejects(NotFinal);
    }
}

mod a_running_task {
    use super::*;
    sentences! {
        is_not_created_again: given(running()).when(create()).rejects(AlreadyExists);
        waits_for_no_time: given(running()).when(enqueue(RunAt)).then_nothing();
        waits_for_no_retry: given(running()).when(enqueue(RetryAt)).then_nothing();
        cannot_start_twice: given(running()).when(start(2)).rejects(NotQueued);
        is_asked_to_stop: given(running()).when(cancel()).then([cancel_requested()]);
        acknowledges_nothing_that_nobody_asked: given(running()).when(acknowledge(1, None)).rejects(NotCancelling);
        cannot_be_escalated_before_a_request: given(running()).when(escalate(Revoke)).rejects(NotCancelling);
        has_no_next_rung_before_a_request: given(running()).when(next_rung(Revoke, 1)).then_nothing();
        succeeds: given(running()).when(finish(1, success())).then([succeeded_by(1)]);
        fails_and_another_attempt_follows: given(running()).when(finish(1, failure())).then([attempt_failed(1, 1)]);
        cannot_stop_for_a_request_that_nobody_made: given(running()).when(finish(1, stopped())).rejects(NotCancelling);
        is_handed_back: given(running()).when(finish(1, handed_back())).then([released(1)]);
        is_lost_and_another_attempt_follows: given(running()).when(lose(1)).then([lost_attempt(1)]);
        cannot_run_again: given(running()).when(retry()).rejects(NotFinal);
    }
}

mod a_cancelling_task {
    use super::*;
    sentences! {
        is_not_created_again: given(cancelling()).when(create()).rejects(AlreadyExists);
        waits_for_no_time: given(cancelling()).when(enqueue(RunAt)).then_nothing();
        waits_for_no_retry: given(cancelling()).when(enqueue(RetryAt)).then_nothing();
        cannot_start_again: given(cancelling()).when(start(2)).rejects(NotQueued);
        has_been_asked_already: given(cancelling()).when(cancel()).then_nothing();
        acknowledges: given(cancelling()).when(acknowledge(1, Some("b.mp4"))).then([acknowledged(1, Some("b.mp4"))]);
        is_interrupted: given(cancelling()).when(escalate(Interrupt)).then([escalated(Interrupt)]);
        is_revoked: given(cancelling()).when(escalate(Revoke)).then([escalated(Revoke), forced(1, None)]);
        is_interrupted_by_its_timer: given(cancelling()).when(next_rung(Interrupt, 1)).then([escalated(Interrupt)]);
        is_revoked_by_its_timer: given(cancelling()).when(next_rung(Revoke, 1)).then([escalated(Revoke), forced(1, None)]);
        may_finish_first: given(cancelling()).when(finish(1, success())).then([succeeded_by(1)]);
        may_fail_first: given(cancelling()).when(finish(1, failure())).then([failed_by(1)]);
        stops: given(cancelling()).when(finish(1, stopped())).then([cancelled_by(1)]);
        handed_back_is_cancelled: given(cancelling()).when(finish(1, handed_back())).then([cancelled_by(1)]);
        lost_is_cancelled_by_force: given(cancelling()).when(lose(1)).then([forced(1, Some(lost()))]);
        cannot_run_again: given(cancelling()).when(retry()).rejects(NotFinal);
    }
}

mod a_retrying_task {
    use super::*;
    sentences! {
        is_not_created_again: given(retrying()).when(create()).rejects(AlreadyExists);
        is_queued_when_its_pause_is_over: given(retrying()).when_at(after(2), enqueue(RetryAt)).then([became_ready(RetryAt)]);
        waits_while_its_pause_lasts: given(retrying()).when(enqueue(RetryAt)).then_nothing();
        waits_for_no_time: given(retrying()).when_at(after(2), enqueue(RunAt)).then_nothing();
        cannot_start: given(retrying()).when(start(2)).rejects(NotQueued);
        is_cancelled_at_once: given(retrying()).when(cancel()).then([cancel_requested(), cancelled_waiting(None)]);
        hears_no_acknowledgement: given(retrying()).when(acknowledge(1, None)).rejects(LeaseLost);
        cannot_be_escalated: given(retrying()).when(escalate(Interrupt)).rejects(NotCancelling);
        has_no_next_rung: given(retrying()).when(next_rung(Interrupt, 1)).then_nothing();
        cannot_succeed: given(retrying()).when(finish(1, success())).rejects(LeaseLost);
        cannot_fail_twice: given(retrying()).when(finish(1, failure())).rejects(LeaseLost);
        cannot_stop: given(retrying()).when(finish(1, stopped())).rejects(LeaseLost);
        cannot_be_handed_back: given(retrying()).when(finish(1, handed_back())).rejects(LeaseLost);
        cannot_be_lost_twice: given(retrying()).when(lose(1)).then_nothing();
        cannot_run_again: given(retrying()).when(retry()).rejects(NotFinal);
    }
}

/// The three final statuses lead to the same decision for every command.
macro_rules! final_status {
    ($module:ident, $history:ident) => {
        mod $module {
            use super::*;
            sentences! {
                is_not_created_again: given($history()).when(create()).rejects(AlreadyExists);
                waits_for_no_time: given($history()).when(enqueue(RunAt)).then_nothing();
                waits_for_no_retry: given($history()).when(enqueue(RetryAt)).then_nothing();
                cannot_start: given($history()).when(start(2)).rejects(NotQueued);
                stays_as_it_is_when_somebody_cancels: given($history()).when(cancel()).then_nothing();
                hears_no_acknowledgement: given($history()).when(acknowledge(1, None)).rejects(LeaseLost);
                stays_as_it_is_when_somebody_escalates: given($history()).when(escalate(Revoke)).then_nothing();
                has_no_next_rung: given($history()).when(next_rung(Revoke, 1)).then_nothing();
                cannot_succeed: given($history()).when(finish(1, success())).rejects(LeaseLost);
                cannot_fail: given($history()).when(finish(1, failure())).rejects(LeaseLost);
                cannot_stop: given($history()).when(finish(1, stopped())).rejects(LeaseLost);
                cannot_be_handed_back: given($history()).when(finish(1, handed_back())).rejects(LeaseLost);
                cannot_be_lost: given($history()).when(lose(1)).then_nothing();
                runs_again: given($history()).when(retry()).then([retried()]);
            }
        }
    };
}
final_status!(a_succeeded_task, succeeded);
final_status!(a_failed_task, failed);
final_status!(a_cancelled_task, cancelled);

/// The end of an attempt whose worker is lost.
fn lost_attempt(attempt: u32) -> Event {
    let retry_at = retry_at(1, now(), &lease(attempt));
    Event::AttemptFailed(AttemptFailed { attempt, error: lost(), retry_at, progress: None })
}

/// Every status with every event: an event that is not in the table is illegal.
#[test]
fn the_table_has_the_lines_of_the_contract_and_no_other() {
    let events = || {
        vec![
            created(),
            created_with(|new| new.run_at = Some(now())),
            became_ready(RunAt),
            started(1),
            cancel_requested(),
            acknowledged(1, None),
            escalated(Interrupt),
            attempt_failed(1, 1),
            released(1),
            succeeded_by(1),
            failed_by(1),
            cancelled_by(1),
            retried(),
        ]
    };
    // By row: none, then Status::ALL; by column: the events above; '.' is illegal.
    let table = [
        ". q s . . . . . . . . . . .",
        "s . . q . s . . . . . . x .",
        "q . . . r q . . . . . . x .",
        "r . . . . c . . t q + - x .",
        "c . . . . . c c . . + - x .",
        "t . . q . t . . . . . . x .",
        "+ . . . . . . . . . . . . q",
        "- . . . . . . . . . . . . q",
        "x . . . . . . . . . . . . q",
    ];
    let status = |letter: &str| match letter {
        "s" => Some(Status::Scheduled),
        "q" => Some(Status::Queued),
        "r" => Some(Status::Running),
        "c" => Some(Status::Cancelling),
        "t" => Some(Status::Retrying),
        "+" => Some(Status::Succeeded),
        "-" => Some(Status::Failed),
        "x" => Some(Status::Cancelled),
        _ => None,
    };
    for row in table {
        let (before, cells) = row.split_once(' ').unwrap();
        let cells: Vec<&str> = cells.split(' ').collect();
        assert_eq!(cells.len(), events().len(), "a column for each event: {row}");
        for (event, cell) in events().iter().zip(cells) {
            assert_eq!(Status::next(status(before), event), status(cell), "from {before} by {event:?}");
        }
    }
}
