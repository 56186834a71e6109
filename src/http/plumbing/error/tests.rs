//! Tests of the table of refusals.

use super::*;

#[test]
fn a_refusal_is_retryable_if_the_same_request_may_succeed_later() {
    let (cause, kind) = (String::new, || "Danced".to_owned());
    let append = |error: AppendError| Problem::from(ExecuteError::from(error));
    let read = |error: ReadError| Problem::from(ExecuteError::from(error));
    let table = [
        (append(AppendError::WrongExpectedRevision { actual: None }), 503, "busy", true),
        (append(AppendError::Unavailable(cause())), 503, "log_unavailable", true),
        (append(AppendError::ReadOnly(cause())), 503, "log_read_only", false),
        (append(AppendError::Unknown(cause())), 503, "log_unavailable", true),
        (append(AppendError::TooLarge(cause())), 413, "too_large", false),
        (read(ReadError::Unavailable(cause())), 503, "log_unavailable", true),
        (read(ReadError::Damaged(cause())), 500, "log_damaged", false),
        (read(ReadError::Unknown { position: None, event_type: kind(), version: 1 }), 500, "log_damaged", false),
        (ExecuteError::Busy("stopping").into(), 503, "busy", true),
        (ExecuteError::Rejected(Rejection::LeaseLost).into(), 409, "lease_lost", false),
        (Problem::of_status(StatusCode::SERVICE_UNAVAILABLE), 503, "internal", true),
        (Problem::of_status(StatusCode::NOT_IMPLEMENTED), 501, "not_implemented", false),
        (Problem::of_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED), 505, "http_version_not_supported", false),
        (Problem::new(Refusal::TooManyRequests, ""), 429, "too_many_requests", true),
        (Problem::new(Refusal::TooManyTasks, ""), 429, "too_many_tasks", true),
        (Problem::new(Refusal::Overloaded, ""), 503, "overloaded", true),
        (Problem::behind(false), 503, "behind", true),
        (Problem::behind(true), 503, "behind", false),
        (Problem::of_report(AppendError::ReadOnly(cause()).into()), 503, "log_read_only", true),
        (Problem::of_report(AppendError::Unavailable(cause()).into()), 503, "log_unavailable", true),
        (Problem::of_report(Rejection::LeaseLost.into()), 409, "lease_lost", false),
    ];
    let actual = |problem: &Problem| (problem.status.as_u16(), problem.code, problem.retryable);
    let mismatches: Vec<_> = table
        .iter()
        .filter(|(problem, status, code, retryable)| actual(problem) != (*status, *code, *retryable))
        .map(|(problem, ..)| actual(problem))
        .collect();
    assert_eq!(mismatches, [], "problems whose status, code or retryability differs from the table");
    for (problem, ..) in &table {
        let has_retry_after = problem.response().headers().contains_key(header::RETRY_AFTER);
        assert_eq!(has_retry_after, problem.retryable && matches!(problem.status.as_u16(), 429 | 503), "{problem}");
    }
}
