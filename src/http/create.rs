//! `POST /v1/tasks`: a new task, one for each idempotency key, and one at a time for each unique key.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};

use super::AppState;
use super::accept::{ItemKey, KeyedBody, NewTask, accept};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::task_page::{answer_page, page_after, page_since};
use crate::streams::create::Accepted;
use crate::task::limits::{KEY_MAX, is_line};
use crate::task::{Invalid, Revision};

/// `POST /v1/tasks`: 201 and the new task, or 200 and the task that already has the idempotency key or holds the unique key.
/// The holder of a unique key is answered as it is; the other fields of the request don't change it.
///
/// # Errors
/// See [`accept`].
pub async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let key = idempotency_key(&request)?;
    let body = json::required_body(&request, payload, json::BODY_MAX).await?;
    let new: NewTask = json::read(&body)?;
    if let ItemKey::Given(_) = new.idempotency_key {
        return Err(Problem::invalid_field(
            "/idempotency_key",
            "unknown here: the key goes into the header Idempotency-Key",
        ));
    }
    let keyed = key.map(|key| KeyedBody { key, body: &body });
    match accept(&state, &caller, new, keyed).await? {
        Accepted::Known(id) | Accepted::Held(id) => {
            answer_page(StatusCode::OK, &page_since(&state, id, Revision(0)).await?)
        }
        Accepted::New(id, receipt) => {
            let mut response = answer_page(StatusCode::CREATED, &page_after(&state, id, &receipt).await?)?;
            if let Ok(location) = format!("/v1/tasks/{id}").parse() {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
    }
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut given = request.headers().get_all("idempotency-key");
    let Some(first) = given.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    if given.next().is_some() || !is_line(text, KEY_MAX) {
        let detail = "the header Idempotency-Key holds one key of 1 to 255 printable ASCII characters";
        return Err(Problem::invalid(vec![Invalid::new("", detail)]));
    }
    Ok(Some(text.to_owned()))
}
