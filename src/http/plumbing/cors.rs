//! Responses to pages of allowed origins (CORS): which of them a page may read, and which requests it may send.
//!
//! A page of an allowed origin sends its credential in the header `Authorization`. It never uses a cookie of this server, so
//! no response has `Access-Control-Allow-Credentials`.

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

use super::origin::AllowedOrigin;
use crate::http::AppState;

/// The methods of all resources.
const METHODS: &str = "GET, HEAD, POST, DELETE";
/// The headers that a page may send.
const SENT_HEADERS: &str = "authorization, content-type, idempotency-key, if-none-match, x-request-id";
/// The headers that a page may read.
const READ_HEADERS: &str = "location, retry-after, taskbell-position, taskbell-stale-since, x-request-id";
/// How long a browser remembers the answer to a preflight, in seconds.
const REMEMBERED_S: &str = "600";

/// Which of the server's resources a request asks for. A request extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedResource {
    /// A resource of the API.
    Api,
    /// A file of the UI, which pages of every origin may load.
    UiFile,
}

/// Says that pages of allowed origins may read the response to this request.
pub fn share(request: &HttpRequest, resource: SharedResource) {
    request.extensions_mut().insert(resource);
}

/// Whether a browser asks if a page of another origin may send a request.
#[must_use]
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The response to the preflight of a page of an allowed origin.
#[must_use]
pub fn answer_preflight() -> HttpResponse {
    let mut response = HttpResponse::NoContent();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, SENT_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_S),
    ] {
        response.insert_header((name, HeaderValue::from_static(value)));
    }
    response.finish()
}

/// Adds the headers that let a page of an allowed origin read the response, also that of a refusal. `Vary` keeps caches from
/// giving the response for one origin to another.
pub fn add_headers(request: &HttpRequest, headers: &mut HeaderMap) {
    let Some(resource) = request.extensions().get::<SharedResource>().copied() else { return };
    let Some(state) = request.app_data::<web::Data<AppState>>().filter(|state| !state.allowed_origins.is_empty())
    else {
        return;
    };
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if resource == SharedResource::UiFile {
        set(headers, header::CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin");
    }
    if let Some(origin) = origin_among(&state.allowed_origins, request.headers()) {
        if let Ok(origin) = HeaderValue::from_str(origin.as_str()) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, READ_HEADERS);
    }
}

/// The origin of the request's page, if it is one of these.
fn origin_among<'a>(allowed: &'a [AllowedOrigin], headers: &HeaderMap) -> Option<&'a AllowedOrigin> {
    let mut origins = headers.get_all(header::ORIGIN);
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    allowed.iter().find(|allowed| allowed.as_str().as_bytes() == origin.as_bytes())
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}
