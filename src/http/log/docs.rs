//! The descriptions of the routes.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::events::types;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::query;
use crate::http::plumbing::openapi::schema::{UUID, boolean, named, object, one_of, pattern, position, written_time};
use crate::task::access::Action;

pub fn read() -> Operation {
    let stream =
        format!("^(?:(?:task|schedule|token|session)-{}|queue-[a-z0-9._-]{{1,64}})$", &UUID[1..UUID.len() - 1]);
    let lines = named("RecordedEvent").about("One line for each event: JSON and a line feed.");
    Operation::new("log", "readLog", "Read recorded events")
        .describe(
            "The events up to the head of the log at the time of the request, one on each line. If the server can't read on, it \
             closes the connection before the end of the body.",
        )
        .does(Action::ReadLog)
        .parameters([
            query("after", "Only events after this position. Default: 0, from the beginning.", position()),
            query("limit", "How many events at most. Default: all.", position()),
            query("type", "Only events of this type.", one_of(types())),
            query("stream", "Only events of this stream.", pattern(&stream)),
            query("follow", "Keeps the response open and sends new events as they are recorded.", boolean()),
        ])
        .refuses(&[Refusal::InvalidRequest, Refusal::Overloaded])
        .answers(
            Answer::empty(StatusCode::OK, "The events.").of_type("application/x-ndjson", lines).with_position(),
        )
}

pub fn head() -> Operation {
    let head = object()
        .field("position", position().about("0 if the log is empty."))
        .field("hash", pattern("^[0-9a-f]{64}$").about("The hash over all events so far."))
        .field("time", written_time().or_null())
        .close();
    let example = json!({"position": 41, "hash": "5e".repeat(32), "time": "2026-11-22T15:04:05.000000Z"});
    Operation::new("log", "readLogHead", "Show the head of the log")
        .describe("The position, the hash and the time of the last event.")
        .does(Action::ReadLog)
        .refuses(&[Refusal::InvalidRequest])
        .answers(Answer::json(StatusCode::OK, "The head.", head).with_position().example("head", &example))
}
