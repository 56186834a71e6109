//! Responses and bodies that several routes have.

use actix_web::http::StatusCode;
use serde_json::json;

use super::operation::Answer;
use super::schema::{
    Schema, everyone_or, label, list, name, named, object, one_of, owner, reason, schema, text, time, uuid,
};
use super::tasks::example_page;
use crate::http::limits::ClientLimits;
use crate::task::Status;

/// The routes that a response with a task leads to.
const OF_TASK: [&str; 5] = ["showTask", "listTaskEvents", "cancelTask", "escalateTask", "retryTask"];

/// A response with a task, its input, result and output.
#[must_use]
pub fn task(status: StatusCode, description: &str, task_status: &str) -> Answer {
    Answer::json(status, description, named("TaskPage"))
        .with_position()
        .example("task", &example_page(task_status))
        .links("/id", &OF_TASK)
}

/// The body that has only a reason.
#[must_use]
pub fn reason_body() -> Schema {
    object().optional("reason", reason()).close()
}

/// The filter of a bulk cancel or of a subscription: the parameters of the list. Each has a text or a list of texts.
#[must_use]
pub fn task_filter() -> Schema {
    let search = text(ClientLimits::default().search_bytes).with("pattern", "\\S");
    object()
        .optional("status", one_or_list(&one_of(Status::ALL.map(Status::name))))
        .optional("kind", one_or_list(&name()))
        .optional("queue", one_or_list(&name()))
        .optional("owner", everyone_or(one_or_list(&owner())))
        .optional("label", one_or_list(&label()))
        .optional("q", search)
        .optional("created_after", time())
        .optional("created_before", time())
        .optional("finished_after", time())
        .optional("finished_before", time())
        .optional("parent", uuid())
        .close()
        .about("Tasks that match all fields. The fields have the same meaning as the parameters of `GET /v1/tasks`.")
}

/// A text, or a list of texts of which one must match.
fn one_or_list(item: &Schema) -> Schema {
    let items = list(item.clone(), 1, ClientLimits::default().filter_terms);
    schema(json!({"anyOf": [item.clone().into_json(), items.into_json()]}))
}
