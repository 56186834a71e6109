//! Receives request bodies within limits, and hands their bytes to a parser.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt;

use super::error::{Problem, Refusal};
use super::query::Fields;

/// The largest body, in bytes.
pub const BODY_MAX: usize = 1024 * 1024;
/// The largest body of a batch, in bytes.
pub const BATCH_MAX: usize = 16 * 1024 * 1024;
/// The time within which a body must arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// Receives the body of a request that must have one and no query parameters, and parses it. `max` is the largest accepted body
/// in bytes.
///
/// # Errors
/// As [`receive_optional`]; 400 `malformed_json` if there is no body, 422 if there are query parameters.
pub async fn receive<T, P>(request: &HttpRequest, payload: Payload, max: usize, parse: P) -> Result<T, Problem>
where
    T: Send + 'static,
    P: FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
{
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body = receive_optional(request, payload, max, parse).await?;
    body.ok_or_else(|| Problem::malformed_json("a body is needed"))
}

/// Receives the body of the request, and parses it; `None` if the body is empty. `max` is the largest accepted body in bytes.
///
/// # Errors
/// 400, 408, 413 `too_large`, 415, and those of `parse`.
pub async fn receive_optional<T, P>(
    request: &HttpRequest,
    payload: Payload,
    max: usize,
    parse: P,
) -> Result<Option<T>, Problem>
where
    T: Send + 'static,
    P: FnOnce(&[u8]) -> Result<T, Problem> + Send + 'static,
{
    let bytes = tokio::time::timeout(ARRIVAL_MAX, collect_bytes(payload, max))
        .await
        .map_err(|_| Problem::of_status(StatusCode::REQUEST_TIMEOUT))??;
    if bytes.is_empty() {
        return Ok(None);
    }
    check_media_type(request)?;
    parse(&bytes).map(Some)
}

fn check_media_type(request: &HttpRequest) -> Result<(), Problem> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Problem::unsupported_media_type()) }
}

async fn collect_bytes(mut payload: Payload, max: usize) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::new(Refusal::BadRequest, format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > max {
            return Err(Problem::too_large(format!("a body has at most {max} bytes here")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
