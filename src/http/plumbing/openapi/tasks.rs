//! The schemas with names that several routes use: tasks, their counts, and problems.

use serde_json::{Value, json};

use super::schema::{
    Object, Schema, any, boolean, count, integer, labels, line, list, name, named, number, object, one_of, owner,
    pattern, position, redacted, text, uuid, written_text, written_time,
};
use crate::http::plumbing::error::Refusal;
use crate::task::Status;
use crate::task::limits::{ATTEMPTS_MAX, LABELS_MAX, OUTPUT_TAIL_MAX, TIMEOUT_MAX_S, TITLE_MAX};
use crate::views::cancel::Verdict;

/// An id for examples.
pub const EXAMPLE_ID: &str = "0190f3c2-a4b8-7def-8123-456789abcdef";
/// A lease for examples.
pub const EXAMPLE_LEASE: &str = "0190f3c2-a4b8-7def-8123-456789abcdef.1.5ed5e05f10a94f169bafa66dcfbb373f";

/// The schemas and their names.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("Task", task().close().about("A task, as lists and frames show it. A value that is absent is null.")),
        ("TaskPage", task_page()),
        ("Progress", progress()),
        ("Outcome", outcome()),
        ("TaskError", task_error()),
        ("Cancel", cancel()),
        ("Output", output()),
        ("Counts", counts()),
        ("Unseen", unseen()),
        ("Counters", counters().close().about("Exact counts of tasks, and of the ends that the owner has not seen.")),
        ("Problem", problem()),
        ("InvalidField", invalid_field()),
    ]
}

fn task() -> Object {
    let object = object()
        .field("id", uuid().about("A UUIDv7."))
        .field("kind", name().about("What sort of work it is; it chooses the handler."))
        .field("title", line(TITLE_MAX).about("One line for people."))
        .field("owner", owner().about("The subject whose bell shows the task."))
        .field("queue", name().about("Where the task waits."))
        .field("priority", integer(i32::MIN, i32::MAX).about("In its queue the higher one starts first."))
        .field("labels", labels(LABELS_MAX).about("Keys and values of the client; lists can be filtered by them."))
        .field("parent", uuid().or_null().about("The task that has created this one."))
        .field(
            "status",
            one_of(Status::ALL.map(Status::name)).about("`succeeded`, `failed` and `cancelled` are final."),
        )
        .field("waiting_for", waiting_for())
        .field("attempt", integer(0, u32::MAX).about("The latest attempt, from 1; 0 if none has started."))
        .field("max_attempts", integer(1, ATTEMPTS_MAX).about("How many attempts one run may take."))
        .field("worker", written_text().or_null().about("The worker of the latest attempt."));
    times(object)
        .field("timeout_s", integer(1, TIMEOUT_MAX_S).or_null().about("How long one attempt may take, in seconds."))
        .field("progress", named("Progress").or_null())
        .field("outcome", named("Outcome").or_null().about("Null while the task is not final."))
        .field("cancel", named("Cancel").or_null().about("Null if nobody has requested a cancel in this run."))
        .field("revision", position().about("The number of the task's last event in its own stream, from 0."))
        .field("position", position().about("The position of the task's last event in the log."))
}

fn times(task: Object) -> Object {
    task.field("created_at", written_time())
        .field("run_at", written_time().or_null().about("The task doesn't start before this time."))
        .field("started_at", written_time().or_null().about("When the latest attempt of this run started."))
        .field("finished_at", written_time().or_null().about("When the task became final."))
        .field("duration_ms", count().or_null().about("From `started_at` to `finished_at`, in milliseconds."))
        .field("retry_at", written_time().or_null().about("When the next attempt may start, while `retrying`."))
}

fn waiting_for() -> Schema {
    one_of(["worker", "run_at", "retry_at", "limit", "paused"]).or_null().about(
        "What a task that has not started waits for: a worker that offers its kind, its time, a free place within a limit, or \
         the end of a pause.",
    )
}

/// The task with its input, result and output.
fn task_page() -> Schema {
    task()
        .field("input", any().about("What the handler gets."))
        .field("result", any().about("What the work has returned; null if nothing."))
        .field("output", named("Output").or_null())
        .optional("redacted", redacted())
        .close()
        .about("A task with its input, result and output.")
}

fn progress() -> Schema {
    object()
        .field("fraction", number(0.0, 1.0).or_null().about("How much of the work is done, from 0 to 1."))
        .field("message", written_text().or_null().about("What is being done, for people."))
        .field("at", written_time().about("When the worker reported it."))
        .close()
        .about("The latest progress of an attempt.")
}

fn outcome() -> Schema {
    object()
        .field("message", written_text().or_null().about("One line for people."))
        .field("error", named("TaskError").or_null())
        .close()
        .about("How the run ended.")
}

fn task_error() -> Schema {
    object()
        .field("code", written_text().about("For programs, in `snake_case`."))
        .field("message", written_text().about("For people."))
        .close()
        .about("Why an attempt failed.")
}

fn cancel() -> Schema {
    let verdicts =
        [Verdict::Cancelled, Verdict::FinishedFirst, Verdict::FailedFirst, Verdict::Forced].map(Verdict::name);
    object()
        .field("requested_at", written_time())
        .field("requested_by", written_text())
        .field("reason", written_text().or_null())
        .field("acknowledged_at", written_time().or_null().about("When the worker first acknowledged the request."))
        .field("stopping_after", written_text().or_null().about("The step after which the worker stops."))
        .field("expected_end", written_time().or_null().about("When that step is expected to end."))
        .field("rung", one_of(["ask", "interrupt", "revoke"]).about("The highest rung of the cancel ladder so far."))
        .field("verdict", one_of(verdicts).or_null().about("How the run ended; null while it has not."))
        .close()
        .about("The request to cancel the present run.")
}

fn output() -> Schema {
    object()
        .field("attempt", integer(1, u32::MAX).about("The attempt that wrote it."))
        .field("tail", text(OUTPUT_TAIL_MAX).about("The last bytes that it wrote, at most 65536."))
        .field("dropped_bytes", count().about("How many bytes before them are not kept."))
        .close()
        .about("The output of the latest attempt that wrote any.")
}

fn counts() -> Schema {
    Status::ALL
        .into_iter()
        .fold(object(), |object, status| object.field(status.name(), count()))
        .close()
        .about("How many tasks have each status.")
}

fn unseen() -> Schema {
    object()
        .field("succeeded", count())
        .field("failed", count())
        .field("cancelled", count())
        .close()
        .about("How many tasks have become final after the position `seen`.")
}

/// The fields of the counters.
#[must_use]
pub fn counters() -> Object {
    object()
        .field("position", position().about("The position in the log that the counts show."))
        .field("counts", named("Counts"))
        .field("unseen", named("Unseen"))
        .field("seen", position().about("The owner has seen the bell up to this position."))
}

/// All codes, each once.
#[must_use]
pub fn codes() -> Vec<&'static str> {
    let mut codes: Vec<&str> = Vec::new();
    for (_, code, _) in Refusal::ALL.iter().map(|refusal| refusal.properties()) {
        if !codes.contains(&code) {
            codes.push(code);
        }
    }
    codes
}

fn problem() -> Schema {
    object()
        .field("type", pattern("^urn:taskbell:problem:[a-z_]+$").about("`urn:taskbell:problem:` and the code."))
        .field("title", written_text().about("The name of the status."))
        .field("status", integer(400, 599).about("The HTTP status."))
        .field("detail", written_text().about("The explanation, for people."))
        .field("code", one_of(codes()).about("For programs. Codes don't change between releases."))
        .field("retryable", boolean().about("Whether the same request may succeed later."))
        .field(
            "request_id",
            written_text().or_null().about("The id of the request; events of the request have it too."),
        )
        .field("errors", list(named("InvalidField"), 0, None).about("The invalid values of the request."))
        .close()
        .about("Why a request is refused (RFC 9457).")
}

fn invalid_field() -> Schema {
    object()
        .field(
            "pointer",
            written_text().about("The JSON pointer (RFC 6901) to the value. `/query/…` is a query parameter."),
        )
        .field("detail", written_text().about("What is required of it."))
        .close()
}

/// A task as an example, at the given status.
#[must_use]
pub fn example_task(status: &str) -> Value {
    let mut task = json!({
        "id": EXAMPLE_ID, "kind": "report.build", "title": "Report of November", "owner": "anna", "queue": "default",
        "priority": 0, "labels": {"team": "sales"}, "parent": null, "status": status, "attempt": 0, "max_attempts": 1,
        "worker": null, "created_at": "2026-11-22T15:04:05.000000Z", "run_at": null, "started_at": null,
        "finished_at": null, "duration_ms": null, "retry_at": null, "timeout_s": null, "progress": null, "outcome": null,
        "cancel": null, "revision": 0, "position": 41, "waiting_for": null,
    });
    if status == "queued" {
        task["waiting_for"] = json!("worker");
    }
    if status == "cancelling" {
        (task["attempt"], task["revision"], task["position"]) = (json!(1), json!(2), json!(44));
        task["worker"] = json!("build-1");
        task["started_at"] = json!("2026-11-22T15:04:06.000000Z");
        task["cancel"] = json!({
            "requested_at": "2026-11-22T15:04:09.000000Z", "requested_by": "anna", "reason": "the wrong month",
            "acknowledged_at": null, "stopping_after": null, "expected_end": null, "rung": "ask", "verdict": null,
        });
    }
    task
}

/// The page of such a task.
#[must_use]
pub fn example_page(status: &str) -> Value {
    let mut page = example_task(status);
    page["input"] = json!({"month": "2026-11"});
    (page["result"], page["output"]) = (Value::Null, Value::Null);
    page
}
