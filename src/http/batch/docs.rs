//! The description of the route.

use actix_web::http::StatusCode;
use serde_json::json;

use super::ITEMS_MAX;
use crate::http::accept::docs::task_fields;
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, CALLER, Operation};
use crate::http::plumbing::openapi::schema::{Schema, line, list, named, object, position, schema, uuid};
use crate::http::plumbing::openapi::tasks::EXAMPLE_ID;
use crate::task::access::Action;
use crate::task::limits::IDEMPOTENCY_KEY_MAX;

pub fn create_many() -> Operation {
    let item = task_fields().optional("idempotency_key", line(IDEMPOTENCY_KEY_MAX).or_null()).close();
    let body = object().field("items", list(item, 1, ITEMS_MAX)).close();
    let request = json!({"items": [{"kind": "report.build", "idempotency_key": "report-11"}, {"kind": "report.mail"}]});
    let problem = json!({
        "type": "urn:taskbell:problem:invalid_request", "title": "Unprocessable Entity", "status": 422,
        "detail": "/kind: names that begin with `taskbell.` are reserved", "code": "invalid_request", "retryable": false,
        "request_id": EXAMPLE_ID,
        "errors": [{"pointer": "/kind", "detail": "names that begin with `taskbell.` are reserved"}],
    });
    let response = json!({"items": [{"id": EXAMPLE_ID}, {"problem": problem}], "position": 41});
    Operation::new("tasks", "createTasks", "Create many tasks")
        .describe(
            "Each item is created or refused by itself; its result is at its index. Items with the same idempotency key lead to \
             one task. The body has at most 16 MiB (`max_batch_bytes`).",
        )
        .does(Action::CreateTask { owner: CALLER })
        .body(body, &[("two", request)])
        .writes()
        .refuses(&[Refusal::TooManyTasks])
        .answers(
            Answer::json(StatusCode::OK, "The results, in the order of the items.", results())
                .with_position()
                .example("results", &response),
        )
}

fn results() -> Schema {
    let created = object().field("id", uuid()).close().into_json();
    let refused = object().field("problem", named("Problem")).close().into_json();
    let result = schema(json!({"oneOf": [created, refused]}));
    object().field("items", list(result, 1, ITEMS_MAX)).field("position", position()).close()
}
