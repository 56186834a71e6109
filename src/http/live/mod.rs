//! `GET /v1/live`: the websocket.
//!
//! Only this folder uses the crate `actix-web-actors`. Its maintainers have deprecated it. It stays because the project
//! requires it, and because its measured speed is not lower than that of its successor `actix-ws`.
//!
//! The crate has four limitations:
//!
//! - It takes in all bytes of a client and judges a frame when its last byte has arrived. So [`incoming`] judges each frame by
//!   its header ([`headers`]) and passes on one at a time.
//! - An actor is not polled while its client reads nothing. So the hub detects a stalled socket without the actor's help, by
//!   what [`outgoing`] has passed on, and ends its connection from outside.
//! - `ctx.text` queues frames without a limit. So the hub sends frames only when none wait.
//! - The fragments of a message arrive one by one. So the actor ([`socket`]) joins them.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix_http::ws::Codec;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{WebsocketContext, handshake};

pub(super) mod docs;
mod headers;
mod incoming;
mod messages;
mod outgoing;
mod socket;

use super::AppState;
use super::limits::ClientLimits;
use super::plumbing::caller::Caller;
use super::plumbing::connection::ClientConnection;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::query::Fields;
use super::plumbing::scope::take_scope;
use crate::push::backlog::Backlog;
use crate::views::Scope;
use incoming::Incoming;
use outgoing::Outgoing;
use socket::{LiveSocket, Wires};

/// The largest message from a client after its fragments are joined, in bytes.
const MESSAGE_MAX: u16 = 16 * 1024;

/// The id of the next socket.
static NEXT_SOCKET_ID: AtomicU64 = AtomicU64::new(1);

/// `GET /v1/live`: opens a websocket. The query `owner` says whose bell it gets: one name, or `*` for everyone.
///
/// # Errors
/// 400 if the request isn't a websocket handshake; 404 if the caller may not see this bell; 422 if the query is invalid; 429 if the caller or its address has too
/// many open sockets; 503 if the server has too many.
pub async fn open(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let bell = take_bell(request.query_string(), &caller, &state.limits)?;
    let mut response = handshake(&request)
        .map_err(|error| Problem::new(Refusal::NotAWebsocket, format!("a websocket handshake is needed: {error}")))?;
    let permit = state.sockets.acquire(&caller)?;
    let connection = request.conn_data::<ClientConnection>().cloned().unwrap_or_default();
    connection.bound_unsent_bytes();
    let wires = Wires { connection, end: Rc::default(), encoded: Rc::new(Cell::new(0)), backlog: Backlog::default() };
    let incoming = Incoming::new(payload, MESSAGE_MAX.into(), Rc::clone(&wires.end));
    let (encoded, backlog) = (Rc::clone(&wires.encoded), wires.backlog.clone());
    let id = NEXT_SOCKET_ID.fetch_add(1, Ordering::Relaxed);
    let actor = LiveSocket::new(id, state.get_ref().clone(), (caller, bell), wires, permit);
    let frames = WebsocketContext::with_codec(actor, incoming, Codec::new().max_size(MESSAGE_MAX.into()));
    Ok(response.streaming(Outgoing::new(frames, encoded, backlog)))
}

/// Whose bell the query asks for.
fn take_bell(query: &str, caller: &Caller, limits: &ClientLimits) -> Result<Scope, Problem> {
    let mut fields = Fields::from_query(query)?;
    // The middleware has authenticated the caller with the ticket.
    fields.take("ticket");
    let bell = take_scope(&mut fields, caller, limits)?;
    if matches!(&bell, Scope::Owners(owners) if owners.len() > 1) {
        return Err(fields.refuse("owner", "one name, or `*` for everyone"));
    }
    fields.refuse_unknown()?;
    Ok(bell)
}
