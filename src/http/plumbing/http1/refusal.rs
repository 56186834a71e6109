//! The response of the stream itself to a request that never reaches the HTTP library.

use std::fmt::Write as _;
use std::time::SystemTime;

use actix_web::http::header::HttpDate;

use crate::http::plumbing::error::Problem;
use crate::http::plumbing::response::PROTECTION;
use crate::store::new_id;

/// Encodes the response, after which the connection is closed. A response to HEAD has no body.
#[must_use]
pub fn encode(problem: Problem, is_head: bool) -> Vec<u8> {
    let id = new_id().to_string();
    let problem = Problem { request_id: Some(id.clone()), ..problem };
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {}\r\n", problem.status);
    let response = problem.response();
    let headers = response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()));
    for (name, value) in headers.chain(PROTECTION.iter().map(|(name, value)| (name.as_str(), *value))) {
        // Writing to a string can't fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let date = HttpDate::from(SystemTime::now());
    let length = body.len();
    let _ = write!(head, "x-request-id: {id}\r\ncontent-length: {length}\r\ndate: {date}\r\nconnection: close\r\n\r\n");
    let mut bytes = head.into_bytes();
    if !is_head {
        bytes.extend(body);
    }
    bytes
}
