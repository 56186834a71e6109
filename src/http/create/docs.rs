//! The description of the route.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::accept::docs::task_fields;
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::task;
use crate::http::plumbing::openapi::operation::{CALLER, Operation};
use crate::http::plumbing::openapi::parameters::idempotency_key;
use crate::task::access::Action;

pub fn create() -> Operation {
    let small = json!({"kind": "report.build"});
    let large = json!({
        "kind": "report.build", "title": "Report of November", "input": {"month": "2026-11"}, "queue": "reports", "priority": 5,
        "run_at": "2026-11-23T06:00:00Z", "max_attempts": 3, "timeout_s": 600, "labels": {"team": "sales"},
        "unique_key": "report-2026-11",
    });
    Operation::new("tasks", "createTask", "Create a task")
        .describe(
            "Creates a task, which waits for a worker or a handler of its kind. A request that is repeated with the same \
             `Idempotency-Key` and the same body gets the task of the first one. While a task of the owner with the same \
             `unique_key` is not final, that task is the response.",
        )
        .does(Action::CreateTask { owner: CALLER })
        .parameters([idempotency_key()])
        .body(task_fields().close(), &[("small", small), ("large", large)])
        .writes()
        .refuses(&[Refusal::IdempotencyKeyReused, Refusal::TooManyTasks])
        .answers(task(StatusCode::CREATED, "The new task.", "queued").with_header("Location", "Location"))
        .answers(task(StatusCode::OK, "The existing task of the idempotency key or the unique key.", "queued"))
}
