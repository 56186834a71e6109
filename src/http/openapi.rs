//! `GET /openapi.json`: the description of the HTTP API.

use std::sync::LazyLock;

use actix_web::{HttpRequest, HttpResponse};

use super::plumbing::error::Problem;
use super::plumbing::openapi::document::document;
use super::plumbing::query::Fields;

pub(super) mod docs;

static TEXT: LazyLock<String> = LazyLock::new(|| document(super::operations()).to_string());

/// `GET /openapi.json`: an `OpenAPI` 3.1 document. It is the same for every caller.
///
/// # Errors
/// 422.
pub async fn read(request: HttpRequest) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    Ok(HttpResponse::Ok().content_type("application/json").body(TEXT.as_str()))
}
