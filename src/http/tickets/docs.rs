//! The description of the route.

use actix_web::http::StatusCode;
use serde_json::json;

use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::schema::{object, written_text, written_time};

pub fn issue() -> Operation {
    let origin = "The origin of the page that will open the websocket. Default: that of the request.";
    let body = object().optional("origin", written_text().or_null().about(origin)).close();
    let ticket = object()
        .field("ticket", written_text().about("For `GET /v1/live?ticket=…`."))
        .field("expires_at", written_time().about("The ticket is valid for 30 seconds."))
        .close();
    let example = json!({"ticket": "5e".repeat(32), "expires_at": "2026-11-22T15:04:35.000000Z"});
    Operation::new("credentials", "issueTicket", "Get a ticket for a websocket")
        .describe(
            "A page of another origin can't send a header when it opens a websocket. With a ticket it opens one for the caller, \
             once, within 30 seconds, and from this origin only.",
        )
        .optional_body(body, &[("page", json!({"origin": "https://portal.example.com"}))])
        .answers(Answer::json(StatusCode::CREATED, "The ticket.", ticket).example("ticket", &example))
}
