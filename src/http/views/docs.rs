//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{object, pattern, position};
use crate::task::access::Action;

const PARTS: [&str; 5] = ["tasks", "counters", "keys", "queues_and_schedules", "credentials"];

pub fn digest() -> Operation {
    let hash = || pattern("^[0-9a-f]{64}$");
    let digests = PARTS.into_iter().fold(object(), |object, part| object.field(part, hash())).close();
    let answer = object().field("position", position()).field("digests", digests).close();
    let example = json!({
        "position": 41,
        "digests": PARTS.into_iter().map(|part| (part.to_owned(), json!("5e".repeat(32)))).collect::<serde_json::Map<_, _>>(),
    });
    Operation::new("log", "readViewsDigest", "Show hashes of the views")
        .describe(
            "Hashes of all that the views of this server show at their present position. `taskbell views verify` compares them with \
             those of a fresh fold of the log. They are the same on each server of the same release, and may differ between releases.",
        )
        .does(Action::ReadLog)
        .refuses(&[Refusal::InvalidRequest, Refusal::Overloaded])
        .answers(Answer::json(StatusCode::OK, "The hashes.", answer).with_position().example("digest", &example))
}
