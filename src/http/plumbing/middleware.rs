//! What every request passes on its way in and out: its id, where it may come from, and the form of every refusal.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError as _};

use super::caller::RequestId;
use super::error::Problem;
use crate::store::new_id;

/// Names the request in answers, problems and events.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that is taken over from a client, in bytes.
const REQUEST_ID_MAX: usize = 128;

/// The middleware; see the module.
///
/// # Errors
/// None of its own: what goes wrong is an answer.
pub async fn door(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    pass(request, next, check).await
}

/// The same for files that are the same for everybody: they ask nobody where they come from.
///
/// # Errors
/// None of its own.
pub async fn open_door(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    pass(request, next, |_| Ok(())).await
}

async fn pass(
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
    Ok(leave(response, &id))
}

fn request_id(request: &ServiceRequest) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let good = |id: &&str| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(good).map_or_else(|| new_id().to_string(), str::to_owned)
}

/// There is no password on the loopback address, so the browser of the same machine must not become one: a page of
/// another site can neither name us by a host name of its own (DNS rebinding) nor send us its requests.
fn check(request: &ServiceRequest) -> Result<(), Problem> {
    let forbidden = |detail| Problem::new(StatusCode::FORBIDDEN, "forbidden_origin", detail);
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

/// Every refusal leaves as a problem, whoever made it, with the request's id in it.
fn leave(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
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
