//! The description of the route.

use actix_web::http::StatusCode;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::written_text;
use crate::task::access::Action;

pub fn read() -> Operation {
    Operation::new("server", "readMetrics", "Read the metrics")
        .describe("Metrics since the start of the process, in the text format of Prometheus (version 0.0.4).")
        .does(Action::ReadMetrics)
        .refuses(&[Refusal::InvalidRequest])
        .answers(
            Answer::empty(StatusCode::OK, "The metrics.")
                .of_type("text/plain", written_text())
                .with_header("Taskbell-Position", "Position"),
        )
}
