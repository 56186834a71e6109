//! The description of the route.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, CALLER, Operation};
use crate::http::plumbing::openapi::schema::{boolean, count, named, object, position, reason};
use crate::http::plumbing::openapi::tasks::example_page;
use crate::task::access::Action;

pub fn cancel() -> Operation {
    let filter = named("TaskFilter").about("At least one field is needed besides `owner` with the value `*`.");
    let body = object()
        .field("filter", filter)
        .optional("reason", reason())
        .optional("dry_run", boolean().about("Only counts the tasks. Default: false."))
        .close();
    let request = json!({"filter": {"kind": ["report.build"], "label": "team:sales"}, "reason": "the wrong month", "dry_run": true});
    let response = object()
        .field("matched", count().about("How many tasks match and are not final."))
        .field("task", named("TaskPage").or_null().about("The task that cancels them; null with `dry_run`."))
        .field("position", position().about("The set was fixed at this position of the log."))
        .close();
    let answer =
        Answer::json(StatusCode::ACCEPTED, "How many tasks are cancelled, and the task that does it.", response)
            .with_position()
            .example("dry run", &json!({"matched": 3, "task": null, "position": 41}))
            .example("started", &json!({"matched": 3, "task": example_page("queued"), "position": 41}));
    Operation::new("tasks", "cancelTasks", "Cancel all tasks that match a filter")
        .describe(
            "Requests a cancel of each task that matches the filter now and is not final. A task of the kind \
             `taskbell.bulk-cancel` does it; it shows progress and can itself be cancelled.",
        )
        .does(Action::CommandTask { owner: CALLER })
        .body(body, &[("dry run", request)])
        .writes()
        .refuses(&[Refusal::EmptyFilter, Refusal::NotFound])
        .answers(answer)
}
