//! All refusals with their status, code and retryability, in one table: [`Refusal`]. The response to a refused request is an
//! RFC 9457 `application/problem+json`: [`Problem`].

use std::fmt;
use std::time::Instant;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::repeats::Repeats;
use crate::store::{AppendError, ReadError};
use crate::streams::messages::ExecuteError;
use crate::task::{Invalid, Rejection};

/// The table: for each refusal its meaning, the status, the code, and whether the same request may succeed later.
macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ $name:ident: $status:ident, $code:literal, $retryable:literal;)+) => {
        /// Why a request is refused, with the status and code of the HTTP response. A [`Rejection`] is the reason that the
        /// rules of `task` give; a [`Problem`] is the body of the response.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Refusal { $($(#[doc = $doc])+ $name,)+ }

        impl Refusal {
            /// All refusals, in the order of the table. Some have the same code.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Returns the status, the code, and whether the same request may succeed later.
            #[must_use]
            pub const fn properties(self) -> (StatusCode, &'static str, bool) {
                match self { $(Self::$name => (StatusCode::$status, $code, $retryable),)+ }
            }

            /// Returns the meaning, in Markdown.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

refusals! {
    /// The body is not JSON.
    MalformedJson: BAD_REQUEST, "malformed_json", false;
    /// The request can't be read.
    BadRequest: BAD_REQUEST, "bad_request", false;
    /// `GET /v1/live` without a websocket handshake.
    NotAWebsocket: BAD_REQUEST, "not_a_websocket", false;
    /// A host name or an origin other than this server's own.
    ForbiddenOrigin: FORBIDDEN, "forbidden_origin", false;
    /// The request has no valid credential, and the server requires one.
    Unauthenticated: UNAUTHORIZED, "unauthenticated", false;
    /// The role of the caller may not do this.
    Forbidden: FORBIDDEN, "forbidden", false;
    /// The resource doesn't exist, or it belongs to another caller.
    NotFound: NOT_FOUND, "not_found", false;
    /// The resource doesn't offer this method.
    MethodNotAllowed: METHOD_NOT_ALLOWED, "method_not_allowed", false;
    /// The body took too long to arrive.
    Timeout: REQUEST_TIMEOUT, "timeout", true;
    /// A task with this id already exists.
    AlreadyExists: CONFLICT, "already_exists", false;
    /// Another task of the owner holds the unique key.
    UniqueKeyTaken: CONFLICT, "unique_key_taken", false;
    /// The task is not queued.
    NotQueued: CONFLICT, "not_queued", false;
    /// The task is not final.
    NotFinal: CONFLICT, "not_final", false;
    /// No cancel of the task was requested.
    NotCancelling: CONFLICT, "not_cancelling", false;
    /// The lease has expired or was revoked.
    LeaseLost: CONFLICT, "lease_lost", false;
    /// The caller needs no session, because the server requires no authentication.
    SessionNotNeeded: CONFLICT, "session_not_needed", false;
    /// The body, or one of its values, is too large.
    TooLarge: PAYLOAD_TOO_LARGE, "too_large", false;
    /// The body is not `application/json`, or it has a content encoding.
    UnsupportedMediaType: UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", false;
    /// The path and query of the request are too long.
    UriTooLong: URI_TOO_LONG, "uri_too_long", false;
    /// The request's head is too large, or it has too many headers.
    HeadersTooLarge: REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", false;
    /// The client expects something other than `100-continue`.
    ExpectationFailed: EXPECTATION_FAILED, "expectation_failed", false;
    /// A method or a transfer coding that no resource supports.
    NotImplemented: NOT_IMPLEMENTED, "not_implemented", false;
    /// Another version than HTTP/1.1 or HTTP/1.0.
    HttpVersionNotSupported: HTTP_VERSION_NOT_SUPPORTED, "http_version_not_supported", false;
    /// A value in the request is invalid.
    InvalidRequest: UNPROCESSABLE_ENTITY, "invalid_request", false;
    /// A bulk cancel whose filter is empty.
    EmptyFilter: UNPROCESSABLE_ENTITY, "empty_filter", false;
    /// The idempotency key was used before, by a request with another body.
    IdempotencyKeyReused: UNPROCESSABLE_ENTITY, "idempotency_key_reused", false;
    /// A fault of this server.
    Internal: INTERNAL_SERVER_ERROR, "internal", true;
    /// The log is damaged, or has an event of a type or version that this release doesn't know.
    LogDamaged: INTERNAL_SERVER_ERROR, "log_damaged", false;
    /// The caller, or its address, uses as much of this server as one caller may, or sends too many requests.
    TooManyRequests: TOO_MANY_REQUESTS, "too_many_requests", true;
    /// All callers together use as much of this server as its settings allow.
    Overloaded: SERVICE_UNAVAILABLE, "overloaded", true;
    /// The owner has as many tasks that are not final as one owner may have.
    TooManyTasks: TOO_MANY_REQUESTS, "too_many_tasks", true;
    /// Too many requests write to one stream, the mailbox of an actor is full, or the process is stopping.
    Busy: SERVICE_UNAVAILABLE, "busy", true;
    /// The views have not reached the position that the request needs.
    Behind: SERVICE_UNAVAILABLE, "behind", true;
    /// As [`Self::Behind`], but the views have stopped and can't reach the position before a restart.
    ViewsStopped: SERVICE_UNAVAILABLE, "behind", false;
    /// The log can't be read or written at present, for example because the disk is full. Nothing was written, unless the
    /// detail says that the log did not answer.
    LogUnavailable: SERVICE_UNAVAILABLE, "log_unavailable", true;
    /// The log accepts no more writes in this process. Until a restart it is unknown whether the log has the refused write.
    LogReadOnly: SERVICE_UNAVAILABLE, "log_read_only", false;
    /// As [`Self::LogReadOnly`], for a worker's report (an acknowledgement or an attempt's end). The refusal is
    /// retryable, so that the worker doesn't discard its result: it repeats the report until a restarted server records
    /// it. A report that is sent several times is recorded once.
    ReportUnrecorded: SERVICE_UNAVAILABLE, "log_read_only", true;
    /// `/readyz`: the views lack events of the log, or the log can't be reached at present.
    NotReady: SERVICE_UNAVAILABLE, "not_ready", true;
    /// `/readyz`: until a restart, the log accepts no writes or is damaged, the views have stopped, or an actor has stopped.
    NotReadyUntilRestart: SERVICE_UNAVAILABLE, "not_ready", false;
}

/// The body of the response to a refused request (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// The code that programs compare, in `snake_case`. Codes don't change between releases.
    pub code: &'static str,
    /// The explanation for people.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The invalid fields.
    pub errors: Vec<Invalid>,
    /// The request's id. The middleware sets it.
    pub request_id: Option<String>,
}

impl Problem {
    /// Makes the problem of a refusal.
    pub fn new(refusal: Refusal, detail: impl Into<String>) -> Self {
        let (status, code, retryable) = refusal.properties();
        Self { status, code, detail: detail.into(), retryable, errors: Vec::new(), request_id: None }
    }

    /// 422 `invalid_request`: one or more values are invalid.
    #[must_use]
    pub fn invalid(errors: Vec<Invalid>) -> Self {
        let detail = errors.first().map_or_else(
            || "the request is invalid".to_owned(),
            |first| match first.pointer.as_str() {
                "" => first.detail.clone(),
                pointer => format!("{pointer}: {}", first.detail),
            },
        );
        Self { errors, ..Self::new(Refusal::InvalidRequest, detail) }
    }

    /// 422 `invalid_request`: one value is invalid. `pointer` is the JSON pointer to it.
    pub fn invalid_field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Invalid::new(pointer, detail)])
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(Refusal::NotFound, "not found, or the caller has no access to it")
    }

    /// 401. The text is the same for every reason, so that it says nothing about the credentials that exist.
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self::new(Refusal::Unauthenticated, "a valid credential is needed: `Authorization: Bearer …`, or a session")
    }

    /// 413.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(Refusal::TooLarge, detail)
    }

    /// 503 `behind`, which is retryable unless the views have stopped.
    #[must_use]
    pub fn behind(views_have_stopped: bool) -> Self {
        let refusal = if views_have_stopped { Refusal::ViewsStopped } else { Refusal::Behind };
        Self::new(refusal, "the views have not reached that position yet")
    }

    /// The refusal of a worker's report: an acknowledgement or an attempt's end. If the log accepts no more writes, the
    /// refusal is retryable all the same.
    #[must_use]
    pub fn of_report(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Append(AppendError::ReadOnly(_)) => {
                log_failed_write(&error);
                Self::new(Refusal::ReportUnrecorded, error.to_string())
            }
            error => error.into(),
        }
    }

    /// Makes the problem for a status if nothing else is known about the cause. It is used for error responses of the HTTP
    /// library.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(Refusal::MethodNotAllowed, "this resource does not support this method")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported_media_type(),
            StatusCode::REQUEST_TIMEOUT => Self::new(Refusal::Timeout, "the request took too long to arrive"),
            StatusCode::URI_TOO_LONG => Self::new(Refusal::UriTooLong, "the URI is too long"),
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Self::new(Refusal::HeadersTooLarge, "the headers are too large")
            }
            StatusCode::EXPECTATION_FAILED => Self::new(Refusal::ExpectationFailed, "the expectation can't be met"),
            StatusCode::NOT_IMPLEMENTED => {
                Self::new(Refusal::NotImplemented, "this server does not support this method or transfer coding")
            }
            StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                Self::new(Refusal::HttpVersionNotSupported, "this server supports only HTTP/1.1 and HTTP/1.0")
            }
            status if status.is_server_error() => {
                let problem =
                    Self::new(Refusal::Internal, "internal error; the server's standard error output describes it");
                Self { status, ..problem }
            }
            status => Self { status, ..Self::new(Refusal::BadRequest, "the request can't be understood") },
        }
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        Self::new(Refusal::UnsupportedMediaType, "the body must be application/json")
    }

    /// 400 `malformed_json`.
    pub fn malformed_json(detail: impl Into<String>) -> Self {
        Self::new(Refusal::MalformedJson, detail)
    }

    /// Makes the response with this problem as its body. A retryable 429 or 503 has the header `Retry-After`.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
        }
        if self.has_retry_after() {
            response.insert_header((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        response.body(serde_json::to_vec(self).unwrap_or_default())
    }

    fn has_retry_after(&self) -> bool {
        self.retryable && matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }
}

impl Serialize for Problem {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Field<'a> {
            pointer: &'a str,
            detail: &'a str,
        }
        let fields: Vec<Field<'_>> =
            self.errors.iter().map(|e| Field { pointer: &e.pointer, detail: &e.detail }).collect();
        let mut object = serializer.serialize_struct("Problem", 8)?;
        object.serialize_field("type", &format_args!("urn:taskbell:problem:{}", self.code))?;
        object.serialize_field("title", self.status.canonical_reason().unwrap_or("Error"))?;
        object.serialize_field("status", &self.status.as_u16())?;
        object.serialize_field("detail", &self.detail)?;
        object.serialize_field("code", self.code)?;
        object.serialize_field("retryable", &self.retryable)?;
        object.serialize_field("request_id", &self.request_id)?;
        object.serialize_field("errors", &fields)?;
        object.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The response carries the problem as an extension. The middleware reads it, adds the request's id and encodes the body
    /// again.
    fn error_response(&self) -> HttpResponse<BoxBody> {
        let mut response = self.response();
        response.extensions_mut().insert(self.clone());
        response
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let detail = rejection.to_string();
        match rejection {
            Rejection::NotFound => Self::not_found(),
            Rejection::Invalid(errors) => Self::invalid(errors),
            Rejection::AlreadyExists => Self::new(Refusal::AlreadyExists, detail),
            Rejection::UniqueKeyTaken(_) => Self::new(Refusal::UniqueKeyTaken, detail),
            Rejection::IdempotencyKeyReused => Self::new(Refusal::IdempotencyKeyReused, detail),
            Rejection::NotQueued => Self::new(Refusal::NotQueued, detail),
            Rejection::NotFinal => Self::new(Refusal::NotFinal, detail),
            Rejection::NotCancelling => Self::new(Refusal::NotCancelling, detail),
            Rejection::LeaseLost => Self::new(Refusal::LeaseLost, detail),
            Rejection::BeyondHead { .. } => Self::invalid_field("/position", detail),
        }
    }
}

impl From<ExecuteError> for Problem {
    fn from(error: ExecuteError) -> Self {
        match error {
            ExecuteError::Rejected(rejection) => rejection.into(),
            ExecuteError::Append(error) => error.into(),
            ExecuteError::Read(error) => error.into(),
            ExecuteError::Busy(_) => Self::new(Refusal::Busy, error.to_string()),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let refusal = match &error {
            AppendError::WrongExpectedRevision { .. } => Refusal::Busy,
            AppendError::Unavailable(_) | AppendError::Unknown(_) | AppendError::Invalid(_) => Refusal::LogUnavailable,
            AppendError::ReadOnly(_) => Refusal::LogReadOnly,
            AppendError::TooLarge(_) => Refusal::TooLarge,
        };
        log_failed_write(&error);
        Self::new(refusal, error.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        if let Some(times) = FAILED_READS.occurred(Instant::now()) {
            tracing::error!(%error, times, "a read of the log failed");
        }
        let refusal = match &error {
            ReadError::Unavailable(_) => Refusal::LogUnavailable,
            ReadError::Damaged(_) | ReadError::Unknown { .. } => Refusal::LogDamaged,
        };
        Self::new(refusal, error.to_string())
    }
}

/// The requests that were refused because a write to the log failed. One line a minute is enough: the log itself says when a
/// fault begins and when it ends.
static FAILED_WRITES: Repeats = Repeats::new();
/// The requests that were refused because a read of the log failed.
static FAILED_READS: Repeats = Repeats::new();

fn log_failed_write(error: &dyn fmt::Display) {
    if let Some(times) = FAILED_WRITES.occurred(Instant::now()) {
        tracing::error!(%error, times, "a request is refused, because a write to the log failed");
    }
}

#[cfg(test)]
mod tests;
