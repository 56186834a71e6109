//! Tickets for websockets of browsers.

use std::time::Instant;

use actix_web::http::header::ORIGIN;
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::AppState;
use super::identity::tickets::TICKET_TIME;
use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::forwarded::Client;
use super::plumbing::json;
use super::plumbing::origin::Sender;
use super::plumbing::query::Fields;
use crate::store::now;
use crate::task::Timestamp;
use crate::task::access::Action;

pub(super) mod docs;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTicket {
    origin: Option<String>,
}

#[derive(Serialize)]
struct TicketDoc<'a> {
    ticket: &'a str,
    expires_at: Timestamp,
}

/// `POST /v1/tickets`: issues a ticket for one websocket of the caller: `GET /v1/live?ticket=…`. `origin` is the origin of the
/// page that will open the websocket; by default it is that of the request.
///
/// # Errors
/// 400, 401, 422 if the page may not open websockets here, 429 if the subject has too many unused tickets, 503.
pub async fn issue(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let body: Option<NewTicket> = json::read_optional(&request, payload, json::BodyKind::One).await?;
    caller.check(Action::UseSession)?;
    let origin = origin_for(&state, &request, body.and_then(|body| body.origin))?;
    let ticket = state.tickets.issue(&caller.identity, origin, Instant::now())?;
    let latest = now().plus(TICKET_TIME);
    let expires_at = caller.identity.expires_at.map_or(latest, |expires_at| expires_at.min(latest));
    Ok(HttpResponse::Created().json(TicketDoc { ticket: ticket.reveal(), expires_at }))
}

/// The origin that the websocket must come from; `None` for a program. A page gets tickets for its own origin only.
fn origin_for(state: &AppState, request: &HttpRequest, named: Option<String>) -> Result<Option<String>, Problem> {
    let extensions = request.extensions();
    let (sender, client) = (extensions.get::<Sender>(), extensions.get::<Client>());
    let is_own = |origin: &str| client.is_some_and(|client| client.is_own_origin(origin));
    let is_allowed = |origin: &str| state.allowed_origins.iter().any(|allowed| allowed.as_str() == origin);
    let Some(named) = named else {
        let sent = request.headers().get(ORIGIN).and_then(|origin| origin.to_str().ok()).map(str::to_owned);
        return Ok(match sender {
            None | Some(Sender::Program) => None,
            // A browser may leave its origin out of requests of the server's own pages, but not of a websocket's request.
            Some(Sender::OwnPage) => sent.or_else(|| client.map(Client::own_origin)),
            Some(Sender::AllowedPage(page)) => Some(page.to_string()),
        });
    };
    let may_use = match sender {
        None | Some(Sender::Program) => is_own(&named) || is_allowed(&named),
        Some(Sender::OwnPage) => is_own(&named),
        Some(Sender::AllowedPage(page)) => page.as_str() == named,
    };
    if may_use {
        return Ok(Some(named));
    }
    Err(Problem::invalid_field("/origin", "pages of this origin may not open websockets here"))
}
