//! Parameters that several routes have.

use serde_json::{Value, json};

use super::schema::{self, Schema, label, list, name, one_of, pattern, position, text, time, uuid};
use crate::http::limits::ClientLimits;
use crate::task::Status;
use crate::task::limits::IDEMPOTENCY_KEY_MAX;

/// A parameter of the query.
#[must_use]
pub fn query(name: &str, description: &str, schema: Schema) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema.into_json()})
}

/// A parameter of the path.
#[must_use]
pub fn path(name: &str, description: &str, schema: Schema) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema.into_json()})
}

/// A header.
#[must_use]
pub fn header(name: &str, description: &str, schema: Schema) -> Value {
    json!({"name": name, "in": "header", "description": description, "schema": schema.into_json()})
}

/// A list in the query whose items are separated by commas.
#[must_use]
pub fn comma_list(name: &str, description: &str, item: Schema) -> Value {
    comma_separated(name, description, list(item, 1, ClientLimits::default().filter_terms))
}

fn comma_separated(name: &str, description: &str, list: Schema) -> Value {
    let mut parameter = query(name, description, list);
    parameter["style"] = json!("form");
    parameter["explode"] = json!(false);
    parameter
}

/// Whose tasks a request is about.
#[must_use]
pub fn owners() -> Value {
    let about = "Whose tasks: names, or `*` for everyone. Default: the caller's own, or everyone's on a server that requires no \
        authentication. Tasks that the caller may not see are 404 `not_found`.";
    comma_separated("owner", about, schema::owners(ClientLimits::default().filter_terms))
}

/// The id of a task in the path.
#[must_use]
pub fn task_id() -> Value {
    path("id", "The id of the task.", uuid())
}

/// The name of a queue in the path.
#[must_use]
pub fn queue_name() -> Value {
    path("queue", "The name of the queue. Names that begin with `taskbell.` are the server's own.", schema::free_name())
}

/// The position that the response must have reached.
#[must_use]
pub fn min_position() -> Value {
    let description = "The response shows at least this position of the log. The server waits for it at most 5 seconds and \
        then responds with 503 `behind`.";
    query("min_position", description, position())
}

/// The moment that the response shows.
#[must_use]
pub fn as_of() -> Value {
    let description = "The response shows the state at this moment of the past: when this position (digits) was the last one of the \
        log, or before the first event with a later time (RFC 3339). The progress of running attempts and the workers that waited for \
        tasks are not in the log: a running task shows no progress, and `waiting_for` of a queued task says only whether its queue was \
        paused. A position after the end of the log, and a time in the future, are 422.";
    query("as_of", description, pattern("^([0-9]+|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt].+)$"))
}

/// The idempotency key in the headers.
#[must_use]
pub fn idempotency_key() -> Value {
    let description = "A repeated request with the same key and the same body gets the task of the first one. The keys of each \
        caller are its own.";
    // The server accepts any characters of ASCII from ` ` to `~`, except that spaces at the ends don't belong to the value.
    let key = pattern("^[!-~]([ -~]*[!-~])?$").with("minLength", 1).with("maxLength", IDEMPOTENCY_KEY_MAX);
    header("Idempotency-Key", description, key)
}

/// The filter of a list of tasks.
#[must_use]
pub fn filter() -> Vec<Value> {
    let limits = ClientLimits::default();
    let words = "Words that the title or the message of the outcome contains, in any case; all of them. At most 64 words \
        (`max_filter_terms`) and 1024 bytes (`max_search_bytes`).";
    vec![
        comma_list("status", "Tasks with one of these statuses.", one_of(Status::ALL.map(Status::name))),
        comma_list("kind", "Tasks of one of these kinds.", name()),
        comma_list("queue", "Tasks in one of these queues.", name()),
        owners(),
        query(
            "label",
            "Tasks with this label, as `key:value`. May be repeated; a task then has all of them.",
            list(label(), 1, limits.filter_terms),
        ),
        query("q", words, text(limits.search_bytes).with("pattern", "\\S")),
        query("created_after", "Tasks that were created after this time.", time()),
        query("created_before", "Tasks that were created before this time.", time()),
        query("finished_after", "Tasks that became final after this time.", time()),
        query("finished_before", "Tasks that became final before this time.", time()),
        query("parent", "Tasks that this task has created.", uuid()),
    ]
}
