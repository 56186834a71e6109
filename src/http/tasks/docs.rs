//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::limits::ClientLimits;
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::answers::{reason_body, task};
use crate::http::plumbing::openapi::operation::{Answer, CALLER, Operation};
use crate::http::plumbing::openapi::parameters::{as_of, filter, query, task_id};
use crate::http::plumbing::openapi::schema::{
    Schema, count, integer, list as list_of, named, object, one_of, pattern, position, reason,
};
use crate::http::plumbing::openapi::tasks::example_task;
use crate::http::plumbing::query::DEFAULT_LIMIT;
use crate::task::access::Action;

pub fn list() -> Operation {
    let limit_max = ClientLimits::default().page_tasks;
    let limit = integer(1, limit_max).with("default", DEFAULT_LIMIT);
    let cursor = pattern("^[0-9a-f]{42}$");
    let page = object()
        .field("items", list_of(named("Task"), 0, limit_max))
        .field("next", cursor.clone().or_null().about("The cursor of the next page; null if there is none."))
        .field("prev", cursor.clone().or_null().about("The cursor of the page before; null if there is none."))
        .field("total", count().about("How many tasks match the filter, exactly."))
        .field("position", position())
        .close();
    let example = json!({"items": [example_task("queued")], "next": null, "prev": null, "total": 1, "position": 41});
    Operation::new("tasks", "listTasks", "List tasks")
        .describe("A page of the tasks that match all parts of the filter, the newest first. A list of values matches one of them.")
        .parameters(filter())
        .parameters([
            query("order", "By creation: the newest or the oldest first.", one_of(["desc", "asc"]).with("default", "desc")),
            query("limit", "How many tasks the page has at most (`max_page_tasks`).", limit),
            query(
                "cursor",
                "`next` or `prev` of another page of the same list, with the same filter, order and `as_of`.",
                cursor,
            ),
            as_of(),
        ])
        .waits()
        .refuses(&[Refusal::NotFound])
        .answers(Answer::json(StatusCode::OK, "The page.", page).with_position().example("page", &example))
}

pub fn show() -> Operation {
    Operation::new("tasks", "showTask", "Show a task")
        .describe("The task with its input, its result and the output that is kept.")
        .parameters([task_id(), as_of()])
        .waits()
        .reads_log()
        .refuses(&[Refusal::NotFound])
        .answers(task(StatusCode::OK, "The task.", "queued"))
}

pub fn events() -> Operation {
    Operation::new("tasks", "listTaskEvents", "List the events of a task")
        .describe("The history of the task, the oldest event first.")
        .parameters([task_id()])
        .waits()
        .reads_log()
        .refuses(&[Refusal::NotFound])
        .answers(Answer::json(StatusCode::OK, "The events.", history()).with_position())
}

fn history() -> Schema {
    object().field("items", list_of(named("RecordedEvent"), 1, None)).field("position", position()).close()
}

pub fn cancel() -> Operation {
    Operation::new("tasks", "cancelTask", "Cancel a task")
        .describe(
            "Requests a cancel. A task that waits is cancelled at once; a task that runs is `cancelling` until its worker stops or \
             finishes. A repeated request changes nothing.",
        )
        .does(Action::CommandTask { owner: CALLER })
        .parameters([task_id()])
        .optional_body(reason_body(), &[("reason", json!({"reason": "the wrong month"}))])
        .writes()
        .refuses(&[Refusal::NotFound])
        .answers(task(StatusCode::ACCEPTED, "The task. Its cancel is requested.", "cancelling"))
        .answers(task(StatusCode::OK, "The task. It was final before the request.", "cancelled"))
}

pub fn escalate() -> Operation {
    let body = object()
        .field(
            "rung",
            one_of(["interrupt", "revoke"])
                .about("`interrupt`: stop now. `revoke`: the lease ends, whether or not the code stops."),
        )
        .optional("reason", reason())
        .close();
    Operation::new("tasks", "escalateTask", "Escalate a cancel")
        .describe("Moves the cancel to a higher rung of its ladder. A rung that is reached already changes nothing.")
        .does(Action::Escalate { owner: CALLER })
        .parameters([task_id()])
        .body(body, &[("interrupt", json!({"rung": "interrupt", "reason": "it blocks the release"}))])
        .writes()
        .refuses(&[Refusal::NotFound, Refusal::NotCancelling])
        .answers(task(StatusCode::ACCEPTED, "The task, at this rung.", "cancelling"))
        .answers(task(StatusCode::OK, "The task. It was final before the request.", "cancelled"))
}

pub fn retry() -> Operation {
    Operation::new("tasks", "retryTask", "Run a final task again")
        .describe("Begins a new run of the same task. The numbers of its attempts continue.")
        .does(Action::CommandTask { owner: CALLER })
        .parameters([task_id()])
        .optional_body(reason_body(), &[("reason", json!({"reason": "the disk has room again"}))])
        .writes()
        .refuses(&[Refusal::NotFound, Refusal::NotFinal, Refusal::UniqueKeyTaken, Refusal::TooManyTasks])
        .answers(task(StatusCode::ACCEPTED, "The task, which waits again.", "queued"))
}
