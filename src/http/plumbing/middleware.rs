//! Middleware of every request: it gives the request an id, refuses foreign hosts and origins, and writes every refusal as
//! a problem.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{ALLOW, HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError as _};

use super::caller::RequestId;
use super::error::{Problem, Refusal};
use crate::store::new_id;

/// Carries the request's id, which answers, problems and events repeat.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that a client may give, in bytes. Instead of a longer one the server makes its own.
const REQUEST_ID_MAX: usize = 128;

/// For the API: refuses requests for another host and from pages of another origin.
///
/// # Errors
/// Those of the inner service; a refusal of its own is an answer.
pub async fn same_origin_only(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    process(request, next, check_origin).await
}

/// For the files of the UI, which are public: accepts every host and origin.
///
/// # Errors
/// Those of the inner service.
pub async fn any_origin(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    process(request, next, |_| Ok(())).await
}

async fn process(
    request: ServiceRequest,
    next: Next<BoxBody>,
    check: fn(&ServiceRequest) -> Result<(), Problem>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = request_id(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let response = match check(&request) {
        Ok(()) => next.call(request).await?,
        Err(problem) => request.into_response(problem.error_response()),
    };
    Ok(finish_response(response, &id))
}

fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let good = |id: &&str| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(good).map_or_else(|| new_id().to_string(), str::to_owned)
}

/// The loopback address has no password, and a browser on this machine can reach it. Without this check, a page of another
/// site could read answers under a host name of its own (DNS rebinding) or send requests.
fn check_origin(request: &ServiceRequest) -> Result<(), Problem> {
    let forbidden = |detail| Problem::new(Refusal::ForbiddenOrigin, detail);
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(HOST).unwrap_or_default();
    if !is_loopback(host) {
        return Err(forbidden("this server answers to loopback names only"));
    }
    match text(ORIGIN) {
        Some(origin) if origin.strip_prefix("http://") != Some(host) => {
            Err(forbidden("requests from pages of another origin are refused"))
        }
        _ => Ok(()),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let v4 = name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    v4 || name.eq_ignore_ascii_case("localhost") || name == "[::1]"
}

/// Adds the request's id to the answer. A refusal, also one of the HTTP library, becomes a problem with that id.
fn finish_response(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let (request, mut response) = response.into_parts();
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let known = response.extensions_mut().remove::<Problem>();
        let problem = known.unwrap_or_else(|| Problem::of_status(status));
        let allow = response.headers().get(ALLOW).cloned();
        response = Problem { request_id: Some(id.to_owned()), ..problem }.response();
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    ServiceResponse::new(request, response)
}
