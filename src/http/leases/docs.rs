//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::{Value, json};

use super::checks::{LEASES_MAX, NAMES_MAX, WAIT_MAX_S};
use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{
    Schema, any, boolean, count, free_name, integer, labels, line, list, name, named, number, object, one_of, owner,
    pattern, position, schema, text, time, uuid, worker, written_time,
};
use crate::http::plumbing::openapi::tasks::{EXAMPLE_ID, EXAMPLE_LEASE};
use crate::task::Status;
use crate::task::access::Action;
use crate::task::limits::{LABELS_MAX, NAME_MAX, OUTPUT_TAIL_MAX, TEXT_MAX, TITLE_MAX};

fn operation(id: &'static str, summary: &'static str) -> Operation {
    Operation::new("workers", id, summary).does(Action::UseLeases)
}

/// A lease that a request names.
fn lease() -> Schema {
    pattern("^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\.[0-9]{1,9}\\.[^.]*$")
        .about("A lease, exactly as the server sent it: `<task>.<attempt>.<secret>`.")
}

fn wait() -> Schema {
    number(0.0, WAIT_MAX_S).or_null()
}

fn left_ms() -> Schema {
    count().about("How long the lease is valid from the moment when the response is sent, in milliseconds. No clocks are compared.")
}

pub fn take() -> Operation {
    let names = |about: &str| list(free_name(), 1, NAMES_MAX).or_null().about(about);
    let body = object()
        .field("worker", worker().about("The name of the worker, for people."))
        .optional("kinds", names("The kinds that the worker takes. Default: all that its credential allows."))
        .optional("queues", names("The queues that it takes tasks from. Default: all."))
        .optional("max", integer(1, LEASES_MAX).or_null().about("How many leases at most. Default: 1."))
        .optional("wait_s", wait().about("How long the request waits for the first lease, in seconds. Default: 30."))
        .close();
    let request = json!({"worker": "build-1", "kinds": ["report.build"], "max": 2, "wait_s": 0});
    let leases = object().field("leases", list(granted(), 0, LEASES_MAX)).field("position", position()).close();
    operation("takeLeases", "Take leases")
        .describe(
            "Waits until a task is ready and grants leases. An empty list means that none was ready in time. If the client closes the \
             connection before the response, the attempts don't count. While the log can't be written, the answer is 503, also if the \
             request waits already.",
        )
        .body(body, &[("two", request)])
        .writes()
        .answers(
            Answer::json(StatusCode::OK, "The leases.", leases).with_position().example("leases", &example_leases()),
        )
}

fn granted() -> Schema {
    object()
        .field("lease", lease())
        .field("task_id", uuid())
        .field("kind", name())
        .field("input", any())
        .field("attempt", integer(1, u32::MAX))
        .field("deadline", written_time().about("When the lease ends without a heartbeat, by the server's clock."))
        .field("left_ms", left_ms())
        .field("title", line(TITLE_MAX))
        .field("owner", owner())
        .field("labels", labels(LABELS_MAX))
        .close()
}

fn example_leases() -> Value {
    let lease = json!({
        "lease": EXAMPLE_LEASE, "task_id": EXAMPLE_ID, "kind": "report.build", "input": {"month": "2026-11"}, "attempt": 1,
        "deadline": "2026-11-22T15:04:35.000000Z", "left_ms": 29_998, "title": "Report of November", "owner": "anna",
        "labels": {"team": "sales"},
    });
    json!({"leases": [lease], "position": 42})
}

fn directive() -> Schema {
    one_of(["drain", "cancel", "interrupt", "lost"])
}

pub fn heartbeat() -> Operation {
    let directives = object().field("lease", lease()).field("directive", directive()).close();
    let answer = object()
        .field("directives", list(directives, 0, LEASES_MAX).about(
            "`cancel`: stop when you can. `interrupt`: stop now. `lost`: the attempt has ended, report nothing. `drain`: this server \
             is about to stop, go on.",
        ))
        .field("deadline", written_time().or_null().about("When the first of the leases ends."))
        .field("left_ms", left_ms().or_null())
        .close();
    let example = json!({
        "directives": [{"lease": EXAMPLE_LEASE, "directive": "cancel"}], "deadline": "2026-11-22T15:04:35.000000Z", "left_ms": 29_998,
    });
    operation("sendHeartbeat", "Renew leases and get directives")
        .describe(
            "Renews the leases and waits up to `wait_s` for a directive that `seen` doesn't name, at most a third of the shortest \
             lease. A directive is repeated until the worker names it in `seen`.",
        )
        .body(heartbeat_body(), &[("two", json!({
            "worker": "build-1",
            "leases": [{"lease": EXAMPLE_LEASE, "progress": {"fraction": 0.4, "message": "page 4 of 10"}, "seen": "cancel"}],
            "wait_s": 0,
        }))])
        .refuses(&[Refusal::Behind, Refusal::ViewsStopped, Refusal::Busy])
        .answers(Answer::json(StatusCode::OK, "The directives.", answer).with_position().example("cancel", &example))
}

fn heartbeat_body() -> Schema {
    let progress = object()
        .optional("fraction", number(0.0, 1.0).or_null())
        .optional("message", line(TEXT_MAX).or_null())
        .close()
        .or_null();
    let lease = object()
        .field("lease", lease())
        .optional("progress", progress)
        .optional("seen", directive().or_null().about("The strictest directive that the worker has seen."))
        .close();
    object()
        .field("worker", worker())
        .field("leases", list(lease, 0, LEASES_MAX))
        .optional("wait_s", wait().about("How long the request waits for a directive, in seconds. Default: 0."))
        .close()
}

pub fn acknowledge() -> Operation {
    let body = object()
        .field("lease", lease())
        .optional("stopping_after", line(TEXT_MAX).or_null().about("The step that the worker can't interrupt."))
        .optional("expected_end", time().or_null().about("When that step is expected to end."))
        .close();
    let request =
        json!({"lease": EXAMPLE_LEASE, "stopping_after": "writing page 4", "expected_end": "2026-11-22T15:04:20Z"});
    operation("acknowledgeCancel", "Acknowledge a cancel")
        .describe("The worker knows that the cancel was requested, and stops.")
        .body(body, &[("step", request)])
        .writes()
        .refuses(&[Refusal::LeaseLost, Refusal::NotCancelling])
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Recorded.").with_position())
}

pub fn finish() -> Operation {
    let body = object().field("items", list(finish_item(), 1, LEASES_MAX)).close();
    let done = object().field("status", one_of(Status::ALL.map(Status::name))).close().into_json();
    let refused = object().field("problem", named("Problem")).close().into_json();
    let results = list(schema(json!({"oneOf": [done, refused]})), 1, LEASES_MAX);
    let answer = object().field("items", results).field("position", position()).close();
    let succeeded = json!({"items": [{"lease": EXAMPLE_LEASE, "outcome": "succeeded", "message": "10 pages", "result": {"pages": 10}}]});
    let failed = json!({"items": [{
        "lease": EXAMPLE_LEASE, "outcome": "failed", "error": {"code": "no_paper", "message": "the printer has no paper"},
        "retryable": true, "output": {"tail": "page 4: no paper\n", "dropped_bytes": 0},
    }]});
    operation("finishAttempts", "Report the ends of attempts")
        .describe(
            "Each item is recorded or refused by itself; its result is at its index. An item that is sent again gets the same result \
             again. The body has at most 16 MiB (`max_batch_bytes`).",
        )
        .body(body, &[("succeeded", succeeded), ("failed", failed)])
        .writes()
        .refuses(&[Refusal::LeaseLost, Refusal::NotCancelling])
        .answers(
            Answer::json(StatusCode::OK, "The results, in the order of the items.", answer)
                .with_position()
                .example("results", &json!({"items": [{"status": "succeeded"}], "position": 45})),
        )
}

fn finish_item() -> Schema {
    let error = object()
        .field(
            "code",
            line(NAME_MAX)
                .about("For programs, in `snake_case`. Not `lease_expired`, `timed_out` or `server_restarted`."),
        )
        .field("message", line(TEXT_MAX).about("For people."))
        .close();
    let output = object()
        .field("tail", text(OUTPUT_TAIL_MAX).about("The last bytes of the output."))
        .optional("dropped_bytes", integer(0, u64::MAX).about("How many bytes before them were dropped. Default: 0."))
        .close();
    object()
        .field("lease", lease())
        .field(
            "outcome",
            one_of(["succeeded", "failed", "cancelled", "released"])
                .about("`released`: the work was not done, and the attempt doesn't count."),
        )
        .optional("message", line(TEXT_MAX).or_null().about("Only with `succeeded` and `cancelled`."))
        .optional(
            "result",
            any().about(
                "Only with `succeeded` and `cancelled`. At most 262144 bytes without white space (`max_result_bytes`).",
            ),
        )
        .optional("error", error.or_null().about("Needed with `failed`, and only then."))
        .optional(
            "retryable",
            boolean().or_null().about("Only with `failed`: whether another attempt may succeed. Default: true."),
        )
        .optional("output", output.or_null())
        .close()
}
