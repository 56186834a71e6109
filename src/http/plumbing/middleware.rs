//! Middleware of every request: it gives the request an id, refuses foreign hosts and origins, and writes every refusal as
//! a problem. On the API it also says whether the views are stale, and refuses what views that have never caught up with
//! the log can't answer.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HOST, HeaderName, HeaderValue, ORIGIN};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError as _, web};

use super::caller::RequestId;
use super::error::{Problem, Refusal};
use crate::http::state::AppState;
use crate::store::new_id;

/// Carries the request's id, which answers, problems and events repeat.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Since when the views may lack events, because the cluster can't be reached. Not there while they show all.
const STALE_SINCE: HeaderName = HeaderName::from_static("taskbell-stale-since");
/// The longest id that a client may give, in bytes. Instead of a longer one the server makes its own.
const REQUEST_ID_MAX: usize = 128;

/// For the API: refuses requests for another host and from pages of another origin.
///
/// # Errors
/// Those of the inner service; a refusal of its own is an answer.
pub async fn same_origin_only(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    process(request, next, check_origin).await
}

/// As [`same_origin_only`], for the resources whose state the views show. Before the views have caught up with the log for
/// the first time, it refuses every write. A read that finds nothing is refused too: what it looks for may be among the events
/// that are still to come.
///
/// # Errors
/// Those of the inner service; a refusal of its own is an answer.
pub async fn from_the_views(request: ServiceRequest, next: Next<BoxBody>) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<AppState>>().cloned() else {
        return same_origin_only(request, next).await;
    };
    let is_write = !request.method().is_safe();
    let check = |request: &ServiceRequest| {
        check_origin(request)?;
        if is_write { state.require_caught_up() } else { Ok(()) }
    };
    let mut response = process(request, next, check).await?;
    if response.status() == StatusCode::NOT_FOUND
        && let Err(problem) = state.require_caught_up()
    {
        let id = response.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        response = finish_response(response.into_response(problem.error_response()), &id);
    }
    if let Some(since) = state.freshness.stale_since()
        && let Ok(since) = HeaderValue::from_str(&since.to_string())
    {
        response.headers_mut().insert(STALE_SINCE, since);
    }
    Ok(response)
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
    check: impl FnOnce(&ServiceRequest) -> Result<(), Problem>,
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
