//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{list, object, position, schema, written_text};

pub fn alive() -> Operation {
    let alive = object().field("alive", schema(json!({"const": true}))).close();
    Operation::public("server", "isAlive", "Whether the process handles requests")
        .describe("200 while the process runs, whatever the state of the log.")
        .refuses(&[Refusal::InvalidRequest])
        .answers(Answer::json(StatusCode::OK, "It does.", alive).example("alive", &json!({"alive": true})))
}

pub fn ready() -> Operation {
    let ready = object()
        .field("ready", schema(json!({"const": true})))
        .field("reasons", list(written_text(), 0, 0))
        .field(
            "warnings",
            list(written_text(), 0, 1).about("What an operator should look at, although the server is ready."),
        )
        .field("position", position())
        .close();
    let example = json!({"ready": true, "reasons": [], "warnings": [], "position": 41});
    Operation::public("server", "isReady", "Whether the server may get requests")
        .describe("503 with the reasons while it may not. `retryable` is false if only a restart helps. While the disk has no room, the \
             server tries to write every second, and is ready again when that succeeds.")
        .refuses(&[Refusal::InvalidRequest, Refusal::NotReady, Refusal::NotReadyUntilRestart])
        .answers(
            Answer::json(StatusCode::OK, "It may.", ready)
                .with_header("Taskbell-Position", "Position")
                .example("ready", &example),
        )
}
