//! Responses and bodies that several routes have.

use actix_web::http::StatusCode;
use serde_json::{Map, Value, json};

use super::operation::Answer;
use super::schema::{
    Schema, count, label, list, name, named, object, one_of, owner_or_everyone, owners, pattern, position, reason,
    schema, text, time, uuid, written_text, written_time,
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
        .optional("owner", either(owner_or_everyone(), owners(ClientLimits::default().filter_terms)))
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
    either(item.clone(), list(item.clone(), 1, ClientLimits::default().filter_terms))
}

fn either(one: Schema, other: Schema) -> Schema {
    schema(json!({"anyOf": [one.into_json(), other.into_json()]}))
}

/// The headers of responses, by their names among the components.
#[must_use]
pub fn headers() -> Map<String, Value> {
    let header = |required: bool, description: &str, schema: Schema| json!({"required": required, "description": description, "schema": schema.into_json()});
    let id = header(true, "The id of the request: the client's own, or a new one.", pattern("^[!-~]{1,128}$"));
    let at = header(true, "The position in the log that the response shows.", position());
    let stale = "Only while the server can't reach its cluster: since this time events may be missing.";
    let retry =
        header(false, "After how many seconds the client may try again. Absent if `retryable` is false.", count());
    let location = header(true, "The path of the new resource.", pattern("^/v1/(tasks|schedules|tokens)/"));
    Map::from_iter([
        ("RequestId".to_owned(), id),
        ("Position".to_owned(), at),
        ("StaleSince".to_owned(), header(false, stale, written_time())),
        ("RetryAfter".to_owned(), retry),
        ("Location".to_owned(), location),
        ("Authenticate".to_owned(), header(true, "The scheme of the credential.", schema(json!({"const": "Bearer"})))),
        ("SetCookie".to_owned(), header(false, "The cookie of the session.", written_text())),
        ("ETag".to_owned(), header(true, "The hash of the file.", pattern("^\"[0-9a-f]{32}\"$"))),
    ])
}
