//! The description of the route.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::schema;

pub fn read() -> Operation {
    let document = schema(json!({"type": "object", "required": ["openapi", "info", "paths"]}));
    Operation::public("server", "readOpenApi", "Read this document")
        .describe("An OpenAPI 3.1 document. It is the same for every caller.")
        .refuses(&[Refusal::InvalidRequest])
        .answers(Answer::json(StatusCode::OK, "The document.", document))
}
