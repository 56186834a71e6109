//! The middleware of all routes. It gives each request an id, refuses hosts and origins other than this server's own,
//! and makes each refusal a [`Problem`] with the id.
//!
//! On the API it also adds a header while the views are stale. Before the views have caught up with the log for the first
//! time, it refuses requests that need complete views.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, HeaderName, HeaderValue, SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, HttpRequest, ResponseError as _, web};

use super::caller::RequestId;
use super::cors::{self, SharedResource};
use super::error::{Problem, Refusal};
use super::forwarded::Client;
use super::origin::{Sender, check_sender};
use super::public_address::PublicAddress;
use super::response::PROTECTION;
use crate::http::identity::Identity;
use crate::http::identity::authenticate::authenticate;
use crate::http::identity::cookie::ForgetCookie;
use crate::http::state::AppState;
use crate::store::new_id;

/// The header with the request's id. The response, a problem and the events of the request contain the same id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header with the time since which the views may lack events, because the cluster can't be reached. Absent while the
/// views are complete.
const STALE_SINCE: HeaderName = HeaderName::from_static("taskbell-stale-since");
/// For a year, browsers use this host only over TLS.
const HTTPS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// The longest request id that the server accepts from a client, in bytes. It replaces a longer one by an id of its own.
const REQUEST_ID_MAX: usize = 128;

/// Refuses requests for another host and requests from pages of another origin.
///
/// # Errors
/// Those of the inner service. A refusal by this middleware is a response and not an error.
pub async fn check_origin_only(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run_checked(request, next, async |request: &ServiceRequest| check_origin(request).map(|_| ())).await
}

/// As [`check_origin_only`], and authenticates the caller.
///
/// # Errors
/// Those of the inner service. A refusal by this middleware is a response and not an error.
pub async fn check_origin_and_caller(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run_checked(request, next, identify_caller).await
}

/// As [`check_origin_and_caller`], for the resources whose state the views show. Before the views have caught up with the log for
/// the first time, it refuses every write. It also replaces a response 404 by 503 `behind`, because the resource may be in
/// events that the views don't have yet.
///
/// # Errors
/// Those of the inner service. A refusal by this middleware is a response and not an error.
pub async fn check_origin_and_views(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<web::Data<AppState>>().cloned() else {
        return check_origin_only(request, next).await;
    };
    cors::share(request.request(), SharedResource::Api);
    if cors::is_preflight(request.method(), request.headers()) && !state.allowed_origins.is_empty() {
        return Ok(answer_preflight(request));
    }
    let is_write = !request.method().is_safe();
    let check = async |request: &ServiceRequest| {
        identify_caller(request).await?;
        if is_write { state.require_caught_up() } else { Ok(()) }
    };
    let mut response = run_checked(request, next, check).await?;
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

/// For the pages of the UI, which are public: accepts every host and origin.
///
/// # Errors
/// Those of the inner service.
pub async fn accept_any_origin(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    run_checked(request, next, async |_: &ServiceRequest| Ok(())).await
}

/// As [`accept_any_origin`], for the files of the UI that pages of allowed origins load.
///
/// # Errors
/// Those of the inner service.
pub async fn accept_any_origin_and_share(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    cors::share(request.request(), SharedResource::UiFile);
    accept_any_origin(request, next).await
}

/// For a whole application: replaces the error responses that the HTTP library itself makes, and that belong to no route, by
/// problems with an id. The response to `OPTIONS *` is one of them, because `*` is no path.
///
/// # Errors
/// Those of the inner service.
pub async fn finish_library_response(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // Most responses have been finished by the middleware of their route, and need no id here.
    let id = request.headers().get(REQUEST_ID).cloned();
    let response = next.call(request).await?;
    let is_finished = response.headers().contains_key(REQUEST_ID);
    Ok(if is_finished { response } else { finish_response(response, &valid_request_id(id.as_ref())) })
}

/// Gives the request an id, runs `check`, and calls the inner service if `check` succeeds. If `check` refuses the request, the
/// response is the problem that `check` returns.
async fn run_checked(
    request: ServiceRequest,
    next: Next<BoxBody>,
    check: impl AsyncFnOnce(&ServiceRequest) -> Result<(), Problem>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let id = begin(&request);
    let response = match check(&request).await {
        Ok(()) => next.call(request).await?,
        Err(problem) => request.into_response(problem.error_response()),
    };
    Ok(finish_response(response, &id))
}

/// Keeps the request's id and its client in the request's extensions. Returns the id.
fn begin(request: &ServiceRequest) -> String {
    let id = request_id(request);
    let client = with_public_address(request.request(), |public| {
        Client::of(public, request.peer_addr().map(|peer| peer.ip()), request.headers())
    });
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(client);
    id
}

/// Answers a browser that asks whether a page of another origin may send a request. It asks without a credential.
fn answer_preflight(request: ServiceRequest) -> ServiceResponse<BoxBody> {
    let id = begin(&request);
    let response = match check_origin(&request) {
        Ok(_) => cors::answer_preflight(),
        Err(problem) => problem.error_response(),
    };
    finish_response(request.into_response(response), &id)
}

/// Checks the origin, and finds out who sends the request. The handler finds the caller in the request's extensions.
async fn identify_caller(request: &ServiceRequest) -> Result<(), Problem> {
    let sender = check_origin(request)?;
    let Some(state) = request.app_data::<web::Data<AppState>>() else { return Ok(()) };
    let identity = authenticate(state, request, &sender).await?;
    request.extensions_mut().insert(identity);
    Ok(())
}

/// Returns the id from the client's header if it is valid, else a new id.
fn request_id(request: &ServiceRequest) -> String {
    valid_request_id(request.headers().get(REQUEST_ID))
}

/// Returns the id that the client has sent if it is valid, else a new id.
fn valid_request_id(sent: Option<&HeaderValue>) -> String {
    let client_id = sent.and_then(|value| value.to_str().ok());
    let is_valid =
        |id: &&str| (1..=REQUEST_ID_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    client_id.filter(is_valid).map_or_else(|| new_id().to_string(), str::to_owned)
}

/// Refuses the request unless its host is a name of this server and it comes from a program, from this server's own pages, or
/// from pages of an allowed origin.
///
/// Any browser on this machine can reach the loopback address. Without this check, a page of another site could send requests,
/// and could read the responses if the site's host name resolves to the address of this server (DNS rebinding).
fn check_origin(request: &ServiceRequest) -> Result<Sender, Problem> {
    let forbidden = |detail| Problem::new(Refusal::ForbiddenOrigin, detail);
    let Some(client) = request.extensions().get::<Client>().cloned() else {
        return Err(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR));
    };
    with_public_address(request.request(), |public| {
        if public.allows_host(&client.host) {
            return Ok(());
        }
        Err(forbidden(if public.hosts.is_empty() && public.allows_loopback_hosts {
            "the header `Host` must name a loopback address (localhost, 127.0.0.1 or [::1])"
        } else {
            "the header `Host` names no host of this server (its setting allow_hosts)"
        }))
    })?;
    let state = request.app_data::<web::Data<AppState>>();
    check_sender(request.request(), &client, state.map_or(&[], |state| &state.allowed_origins))
}

/// Reads how clients reach this server.
fn with_public_address<T>(request: &HttpRequest, read: impl FnOnce(&PublicAddress) -> T) -> T {
    match request.app_data::<web::Data<AppState>>() {
        Some(state) => read(&state.public_address),
        None => read(&PublicAddress::default()),
    }
}

/// Writes a refused attempt to the program's log. The query isn't written, because a ticket may be in it.
fn log_refusal(request: &HttpRequest, problem: &Problem, id: &str) {
    let extensions = request.extensions();
    let subject = extensions.get::<Identity>().map(|identity| identity.subject.as_str());
    let address = extensions.get::<Client>().and_then(|client| client.address);
    tracing::info!(
        target: "taskbell::access",
        request_id = id,
        address = address.map(tracing::field::display),
        subject,
        code = problem.code,
        method = %request.method(),
        path = request.path(),
        "a request is refused"
    );
}

/// Adds the request's id and the headers of [`PROTECTION`] to the response. Makes each response with an error status, also
/// those of the HTTP library, a problem with this id.
fn finish_response(response: ServiceResponse<BoxBody>, id: &str) -> ServiceResponse<BoxBody> {
    let (request, mut response) = response.into_parts();
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        let problem = response.extensions_mut().remove::<Problem>();
        let problem = problem.unwrap_or_else(|| Problem::of_status(status));
        let allow = response.headers().get(ALLOW).cloned();
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS) {
            log_refusal(&request, &problem, id);
        }
        response = Problem { request_id: Some(id.to_owned()), ..problem }.response();
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, allow);
        }
    }
    let is_https = with_public_address(&request, |public| public.is_https);
    let headers = response.headers_mut();
    if is_https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HTTPS_ONLY);
    }
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    for (name, value) in PROTECTION {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if let Some(cookie) = request.extensions().get::<ForgetCookie>().and_then(|forget| forget.0.clear()) {
        headers.append(SET_COOKIE, cookie);
    }
    cors::add_headers(&request, headers);
    ServiceResponse::new(request, response)
}
