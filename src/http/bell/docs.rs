//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::{as_of, filter};
use crate::http::plumbing::openapi::schema::{named, object, position};
use crate::task::access::Action;

pub fn counters() -> Operation {
    let example = json!({
        "position": 41,
        "counts": {
            "scheduled": 0, "queued": 2, "running": 1, "cancelling": 0, "retrying": 0, "succeeded": 7, "failed": 1, "cancelled": 0,
        },
        "unseen": {"succeeded": 1, "failed": 1, "cancelled": 0},
        "seen": 37,
    });
    Operation::new("bell", "readCounters", "Count tasks")
        .describe(
            "Exact counts at one position of the log, of the tasks that `GET /v1/tasks` lists with the same filter. For `owner=*` \
             the position `seen` is the caller's own.",
        )
        .parameters(filter())
        .parameters([as_of()])
        .waits()
        .refuses(&[Refusal::NotFound])
        .answers(
            Answer::json(StatusCode::OK, "The counts.", named("Counters"))
                .with_position()
                .example("counters", &example),
        )
}

pub fn seen() -> Operation {
    let body = object().field("position", position().about("At most the head of the log.")).close();
    Operation::new("bell", "markSeen", "Mark the bell as seen")
        .describe("The caller has seen the ends of its tasks up to this position. A smaller position than before changes nothing.")
        .does(Action::MarkSeen)
        .body(body, &[("position", json!({"position": 41}))])
        .writes()
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Recorded."))
}
