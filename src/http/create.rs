//! `POST /v1/tasks`: creates a task. An idempotency key has at most one task, and a unique key has at most one task that is
//! not final.

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};

use super::AppState;
use super::accept::{NewTask, accept, check_creates};
use super::plumbing::body::{self, BodyKind};
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::task_access::check_task;
use super::task_page::{page_after_command, page_at_least, respond_with_page};
use crate::streams::create::Accepted;
use crate::task::access::Action;
use crate::task::limits::{IDEMPOTENCY_KEY_MAX, is_line};
use crate::task::{Invalid, Revision};

pub(super) mod docs;

/// `POST /v1/tasks`: 201 and the new task, or 200 and the existing task if a task already has the idempotency key or
/// holds the unique key. The request changes nothing in an existing task.
///
/// # Errors
/// Those of [`body::receive`] and of [`accept`].
pub async fn create(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    check_creates(&caller)?;
    let key = idempotency_key(&request)?;
    let parse = |body: &[u8]| NewTask::parse(body, key);
    let (new, keyed) = body::receive(&request, payload, BodyKind::One, parse).await?;
    // In a box, this large future is not moved whenever a layer above moves its own.
    match Box::pin(accept(&state, &caller, new, keyed)).await? {
        Accepted::Repeated(id) | Accepted::KeyHeld(id) => {
            Box::pin(check_task(&state, &caller, id, |owner| Action::ReadTasks { owner })).await?;
            respond_with_page(StatusCode::OK, &Box::pin(page_at_least(&state, id, Revision(0))).await?)
        }
        Accepted::New(id, receipt) => {
            let mut response =
                respond_with_page(StatusCode::CREATED, &page_after_command(&state, id, &receipt).await?)?;
            if let Ok(location) = format!("{}/v1/tasks/{id}", state.public_address.path_prefix).parse() {
                response.headers_mut().insert(LOCATION, location);
            }
            Ok(response)
        }
    }
}

/// Reads the header `Idempotency-Key`.
fn idempotency_key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut values = request.headers().get_all("idempotency-key");
    let Some(first) = values.next() else { return Ok(None) };
    let text = first.to_str().unwrap_or_default();
    if values.next().is_some() || !is_line(text, IDEMPOTENCY_KEY_MAX) {
        let detail = "the header Idempotency-Key holds one key of 1 to 255 printable ASCII characters";
        return Err(Problem::invalid(vec![Invalid::new("", detail)]));
    }
    Ok(Some(text.to_owned()))
}
