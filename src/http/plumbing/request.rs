//! Reads the parts that requests of several resources have in common: the id in the path, and the reason in the body.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use uuid::Uuid;

use super::error::Problem;
use super::json;
use super::query::Fields;
use crate::task::limits::TEXT_MAX;
use crate::task::{Invalid, TaskId};

/// The body of a request whose only content is an optional reason.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: Option<String>,
}

/// Reads the id of a task in the path.
///
/// # Errors
/// 404 if the text isn't an id.
pub fn id_in_path(request: &HttpRequest) -> Result<TaskId, Problem> {
    request.match_info().query("id").parse().map_err(|_| Problem::not_found())
}

/// Reads the id of a schedule in the path. It has the same form as the id of a task.
///
/// # Errors
/// 404 if the text isn't an id.
pub fn uuid_in_path(request: &HttpRequest) -> Result<Uuid, Problem> {
    id_in_path(request).map(TaskId::uuid)
}

/// Reads the optional reason in the body. The body may be empty. The request must have no query parameters.
///
/// # Errors
/// 400, 408, 413, 415, 422.
pub async fn read_reason(request: &HttpRequest, payload: Payload) -> Result<Option<String>, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body: Option<ReasonBody> = json::read_optional(request, payload, json::BodyKind::One).await?;
    let Some(ReasonBody { reason }) = body else { return Ok(None) };
    check_reason(reason)
}

/// Returns the reason if it isn't too long for an event.
///
/// # Errors
/// 422 if it is too long.
pub fn check_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    if reason.as_ref().is_some_and(|text| text.len() > TEXT_MAX) {
        return Err(Problem::invalid(vec![Invalid::new("/reason", format!("at most {TEXT_MAX} bytes"))]));
    }
    Ok(reason)
}
