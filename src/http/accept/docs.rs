//! The schema of a new task, for the routes that create tasks.

use crate::http::plumbing::openapi::schema::{
    Object, any, free_name, integer, labels, line, object, owner, time, uuid,
};
use crate::task::limits::{ATTEMPTS_MAX, LABEL_MAX, LABELS_MAX, TIMEOUT_MAX_S, TITLE_MAX};

/// The fields that a task and the task of a schedule have.
pub fn template_fields() -> Object {
    let input = "Any JSON, which the handler gets exactly as it is written. At most 65536 bytes without white space \
        (`max_input_bytes`) and 32 levels deep (`max_json_depth`). Default: null.";
    let unique =
        "While a task of this owner with this key is not final, the response is that task and no other is created.";
    let owner_rule =
        "Whose bell shows the task. Default: the caller. The roles `operator` and `admin` may name another.";
    object()
        .field("kind", free_name().about("What sort of work it is: a name of a handler or of a worker's offer."))
        .optional(
            "title",
            line(TITLE_MAX).or_null().about("One line for people. Default: the kind, or what the handler says."),
        )
        .optional("input", any().about(input))
        .optional("queue", free_name().or_null().about("Default: `default`."))
        .optional(
            "priority",
            integer(i32::MIN, i32::MAX).or_null().about("In its queue the higher one starts first. Default: 0."),
        )
        .optional("max_attempts", attempts())
        .optional(
            "timeout_s",
            integer(1, TIMEOUT_MAX_S).or_null().about("How long one attempt may take, in seconds; at most 30 days."),
        )
        .optional(
            "labels",
            labels(LABELS_MAX).or_null().about("Keys and values of the client, for filters. A key has no colon."),
        )
        .optional("owner", owner().or_null().about(owner_rule))
        .optional("unique_key", line(LABEL_MAX).or_null().about(unique))
        .optional(
            "concurrency_key",
            line(LABEL_MAX)
                .or_null()
                .about("Of the tasks with this key, one runs at a time, or `max_running_per_key`."),
        )
}

fn attempts() -> crate::http::plumbing::openapi::schema::Schema {
    let about =
        "How many attempts a run may take. With 1 the work is done at most once. Default: that of the kind, usually 1.";
    integer(1, ATTEMPTS_MAX).or_null().about(about)
}

/// The fields of a task.
pub fn task_fields() -> Object {
    template_fields().optional("run_at", time().or_null().about("The task doesn't start before this time.")).optional(
        "parent",
        uuid().or_null().about("The task that creates this one. If it is cancelled, so is this one."),
    )
}
