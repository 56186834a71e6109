//! Every refusal → status + code, in one table. RFC 9457 `application/problem+json`.

use std::fmt;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;
use serde::ser::SerializeStruct;

use crate::store::{AppendError, ReadError};
use crate::streams::messages::ExecuteError;
use crate::task::{Invalid, Rejection};

/// What stands in a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// Stable, `snake_case`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The fields that are wrong.
    pub errors: Vec<Invalid>,
    /// Filled in by the edge, which knows the request.
    pub request_id: Option<String>,
}

impl Problem {
    /// A problem that the same request will meet again.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), retryable: false, errors: Vec::new(), request_id: None }
    }

    /// The same, and a later try may do better.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// 400: the body is no JSON.
    pub fn malformed_json(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_json", detail)
    }

    /// 422: values that can't be.
    #[must_use]
    pub fn invalid(errors: Vec<Invalid>) -> Self {
        let detail = errors.first().map_or_else(
            || "the request can't be what it is".to_owned(),
            |first| match first.pointer.as_str() {
                "" => first.detail.clone(),
                pointer => format!("{pointer}: {}", first.detail),
            },
        );
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_request", detail) }
    }

    /// 422: one value that can't be.
    pub fn invalid_field(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Invalid::new(pointer, detail)])
    }

    /// 404.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here, or it isn't yours")
    }

    /// 413.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 503: the views have not come as far as the request wants.
    #[must_use]
    pub fn behind() -> Self {
        let detail = "the views have not reached that position yet";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail).retryable()
    }

    /// What an answer of the HTTP library itself says, by its status alone.
    #[must_use]
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(status, "method_not_allowed", "this method is not offered here")
            }
            StatusCode::PAYLOAD_TOO_LARGE => Self::too_large("the request is too large"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported_media_type(),
            StatusCode::REQUEST_TIMEOUT => {
                Self::new(status, "timeout", "the request took too long to arrive").retryable()
            }
            status if status.is_server_error() => {
                Self::new(status, "internal", "something went wrong here; the log says what").retryable()
            }
            status => Self::new(status, "bad_request", "the request can't be understood"),
        }
    }

    /// 415.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        let detail = "the body must be application/json";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// The answer that says it.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json")));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.insert_header((header::RETRY_AFTER, HeaderValue::from_static("1")));
        }
        response.body(serde_json::to_vec(self).unwrap_or_default())
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
        let mut out = serializer.serialize_struct("Problem", 8)?;
        out.serialize_field("type", &format_args!("urn:taskbell:problem:{}", self.code))?;
        out.serialize_field("title", self.status.canonical_reason().unwrap_or("Error"))?;
        out.serialize_field("status", &self.status.as_u16())?;
        out.serialize_field("detail", &self.detail)?;
        out.serialize_field("code", self.code)?;
        out.serialize_field("retryable", &self.retryable)?;
        out.serialize_field("request_id", &self.request_id)?;
        out.serialize_field("errors", &fields)?;
        out.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    /// The problem travels beside the answer, so that the edge can add the request's id before it is written.
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
            Rejection::AlreadyExists => Self::new(StatusCode::CONFLICT, "already_exists", detail),
            Rejection::UniqueKeyTaken(_) => Self::new(StatusCode::CONFLICT, "unique_key_taken", detail),
            Rejection::NotQueued => Self::new(StatusCode::CONFLICT, "not_queued", detail),
            Rejection::NotFinal => Self::new(StatusCode::CONFLICT, "not_final", detail),
            Rejection::NotCancelling => Self::new(StatusCode::CONFLICT, "not_cancelling", detail),
            Rejection::LeaseLost => Self::new(StatusCode::CONFLICT, "lease_lost", detail),
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
            ExecuteError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string()).retryable(),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            AppendError::WrongExpectedRevision { .. } => "busy",
            AppendError::Unavailable(_) => "log_unavailable",
            AppendError::ReadOnly(_) => "log_read_only",
        };
        tracing::error!(%error, "a write to the log failed");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error.to_string()).retryable()
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        tracing::error!(%error, "a read of the log failed");
        match error {
            ReadError::Unavailable(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", error.to_string()).retryable()
            }
            ReadError::Damaged(_) | ReadError::Unknown { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "log_damaged", error.to_string())
            }
        }
    }
}
