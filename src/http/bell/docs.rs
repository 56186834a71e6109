//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::query;
use crate::http::plumbing::openapi::schema::{named, object, owner, position};
use crate::task::access::Role;

pub fn counters() -> Operation {
    let example = json!({
        "position": 41,
        "counts": {
            "scheduled": 0, "queued": 2, "running": 1, "cancelling": 0, "retrying": 0, "succeeded": 7, "failed": 1, "cancelled": 0,
        },
        "unseen": {"succeeded": 1, "failed": 1, "cancelled": 0},
        "seen": 37,
    });
    Operation::new("bell", "readCounters", "Count an owner's tasks")
        .describe("Exact counts at one position of the log.")
        .parameters([query("owner", "Whose tasks. Default: the caller's own.", owner())])
        .waits()
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
        .only(&[Role::User, Role::Operator, Role::Worker, Role::Admin])
        .body(body, &[("position", json!({"position": 41}))])
        .writes()
        .answers(Answer::empty(StatusCode::NO_CONTENT, "Recorded."))
}
