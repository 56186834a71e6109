//! `GET /v1/live`: the websocket.
//!
//! This is the only file that uses the crate `actix-web-actors`. Its maintainers have deprecated it. It stays because the
//! project requires it, and because its measured speed is not lower than that of its successor `actix-ws`.
//!
//! The crate has three limitations:
//!
//! - An actor is not polled while its client reads nothing. So the hub detects a stalled socket without the actor's
//!   help, and the kernel closes the connection of a client that never reads (`TCP_USER_TIMEOUT`, which the server
//!   sets).
//! - `ctx.text` queues frames without a limit. So the hub sends frames through the actor's bounded mailbox, with `try_send`.
//! - The fragments of a message arrive one by one. So the actor joins them, up to the largest size of a message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_http::ws::Item;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AppState;
use super::limits::ClientLimits;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::filter::{SentFilter, Terms};
use super::plumbing::json;
use super::plumbing::query::Fields;
use crate::push::messages::{Push, SocketClosed, SocketId, SocketOpened, SocketRequest, Subscription};
use crate::task::{Invalid, Position, TaskId};

/// The largest message from a client after its fragments are joined, in bytes.
const MESSAGE_MAX: usize = 16 * 1024;
/// The most task ids in one subscription.
const IDS_MAX: usize = 200;
/// The socket is closed after this many invalid messages.
const INVALID_MAX: u8 = 3;
/// How many pushes wait in the mailbox for a slow client. For later changes the hub stores which tasks have changed, not the
/// frames.
const MAILBOX_CAPACITY: usize = 4;

/// The id of the next socket.
static NEXT_SOCKET_ID: AtomicU64 = AtomicU64::new(1);

/// `GET /v1/live`: opens a websocket.
///
/// # Errors
/// 400 if the request isn't a websocket handshake; 422 if it has query parameters.
pub async fn open(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Fields::from_query(request.query_string())?.refuse_unknown()?;
    let actor = LiveSocket {
        id: NEXT_SOCKET_ID.fetch_add(1, Ordering::Relaxed),
        state: state.get_ref().clone(),
        caller,
        invalid_messages: 0,
        fragments: Vec::new(),
        is_binary: false,
        is_marking_seen: false,
        next_seen: None,
    };
    ws::WsResponseBuilder::new(actor, &request, payload)
        .frame_size(MESSAGE_MAX)
        .start()
        .map_err(|error| Problem::new(Refusal::NotAWebsocket, format!("a websocket handshake is needed: {error}")))
}

/// A message from the client. (serde would decode a tagged enum not from its text, but from a copy of the parsed JSON.)
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientMessage {
    #[serde(rename = "type")]
    kind: MessageKind,
    filter: Option<SentFilter>,
    position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MessageKind {
    /// With `filter`.
    Subscribe,
    Unsubscribe,
    /// With `position`.
    Seen,
    Resync,
}

/// The request of a message, checked.
enum ClientRequest {
    Subscribe(Subscription),
    Unsubscribe,
    Seen(Position),
    Resync,
}

impl ClientMessage {
    /// Checks that the message has the fields of its type and no others.
    fn into_request(self, limits: &ClientLimits) -> Result<ClientRequest, Problem> {
        let Self { kind, filter, position } = self;
        let refuse = |pointer: &str, detail: &str| Err(Problem::invalid_field(pointer, detail));
        match (kind, filter, position) {
            (MessageKind::Subscribe, Some(filter), None) => {
                parse_subscription(filter, limits).map(ClientRequest::Subscribe)
            }
            (MessageKind::Unsubscribe, None, None) => Ok(ClientRequest::Unsubscribe),
            (MessageKind::Seen, None, Some(position)) => Ok(ClientRequest::Seen(position)),
            (MessageKind::Resync, None, None) => Ok(ClientRequest::Resync),
            (MessageKind::Subscribe, None, _) => refuse("/filter", "a message `subscribe` needs it"),
            (MessageKind::Seen, _, None) => refuse("/position", "a message `seen` needs it"),
            (MessageKind::Unsubscribe | MessageKind::Seen | MessageKind::Resync, Some(_), _) => {
                refuse("/filter", "only a message `subscribe` has it")
            }
            (MessageKind::Subscribe | MessageKind::Unsubscribe | MessageKind::Resync, _, Some(_)) => {
                refuse("/position", "only a message `seen` has it")
            }
        }
    }
}

/// The actor of one socket.
struct LiveSocket {
    id: SocketId,
    state: AppState,
    caller: Caller,
    invalid_messages: u8,
    /// The joined fragments of a message that is not complete yet.
    fragments: Vec<u8>,
    /// Whether the fragments belong to a binary message.
    is_binary: bool,
    /// Whether the position of a `seen` message is being recorded.
    is_marking_seen: bool,
    /// The highest position of the `seen` messages that have arrived during the recording.
    next_seen: Option<Position>,
}

type Ctx = WebsocketContext<LiveSocket>;

impl LiveSocket {
    fn handle_message(&mut self, text: &[u8], ctx: &mut Ctx) {
        let message = json::parse::<ClientMessage>(text);
        let request = match message.and_then(|message| message.into_request(&self.state.limits)) {
            Err(problem) => return self.refuse(&problem, ctx),
            Ok(ClientRequest::Seen(position)) => return self.mark_seen(position, ctx),
            Ok(ClientRequest::Subscribe(subscription)) => SocketRequest::Subscribe(self.id, subscription),
            Ok(ClientRequest::Unsubscribe) => SocketRequest::Unsubscribe(self.id),
            Ok(ClientRequest::Resync) => SocketRequest::Resync(self.id),
        };
        if self.state.hub.try_send(request).is_err() {
            send_problem(&hub_is_busy(), ctx);
        }
    }

    /// Records the position of a `seen` message. If further ones arrive during the recording, only the highest of their
    /// positions is recorded afterwards.
    fn mark_seen(&mut self, position: Position, ctx: &mut Ctx) {
        if self.is_marking_seen {
            self.next_seen = self.next_seen.max(Some(position));
            return;
        }
        self.is_marking_seen = true;
        let (state, caller) = (self.state.clone(), self.caller.clone());
        let recording = async move { state.mark_seen(&caller, position).await };
        ctx.spawn(recording.into_actor(self).map(|result, this, ctx| {
            this.is_marking_seen = false;
            if let Err(problem) = result {
                send_problem(&problem, ctx);
            }
            if let Some(next) = this.next_seen.take() {
                this.mark_seen(next, ctx);
            }
        }));
    }

    /// Sends the problem of an invalid message to the client. Closes the socket after the third invalid message.
    fn refuse(&mut self, problem: &Problem, ctx: &mut Ctx) {
        send_problem(problem, ctx);
        self.invalid_messages += 1;
        if self.invalid_messages >= INVALID_MAX {
            close(CloseCode::Policy, "three messages that can't be what they are", ctx);
        }
    }

    fn begin_message(&mut self, fragment: &[u8], is_binary: bool, ctx: &mut Ctx) {
        self.fragments.clear();
        self.is_binary = is_binary;
        self.append_fragment(fragment, false, ctx);
    }

    fn append_fragment(&mut self, fragment: &[u8], is_last: bool, ctx: &mut Ctx) {
        if self.fragments.len() + fragment.len() > MESSAGE_MAX {
            return close(CloseCode::Size, "a message has at most 16384 bytes", ctx);
        }
        self.fragments.extend_from_slice(fragment);
        if is_last {
            let message = std::mem::take(&mut self.fragments);
            if std::mem::take(&mut self.is_binary) {
                return self.refuse(&text_only(), ctx);
            }
            self.handle_message(&message, ctx);
        }
    }
}

/// Sends a frame of type `problem`, with the same fields as a refusal over HTTP.
fn send_problem(problem: &Problem, ctx: &mut Ctx) {
    let errors: Vec<Value> = problem.errors.iter().map(|e| json!({"pointer": e.pointer, "detail": e.detail})).collect();
    let frame = json!({
        "type": "problem",
        "status": problem.status.as_u16(),
        "code": problem.code,
        "detail": problem.detail,
        "retryable": problem.retryable,
        "errors": errors,
    });
    ctx.text(frame.to_string());
}

/// The problem if the mailbox of the hub is full.
fn hub_is_busy() -> Problem {
    Problem::new(Refusal::Busy, "too many wishes at once; ask again")
}

fn text_only() -> Problem {
    Problem::invalid_field("", "text frames only")
}

/// Reads the filter of a `subscribe` message: either `ids`, or the fields of a task filter.
fn parse_subscription(filter: SentFilter, limits: &ClientLimits) -> Result<Subscription, Problem> {
    let Some(place) = filter.0.iter().position(|(name, _)| name == "ids") else {
        let mut fields = Fields::from_filter(filter)?;
        let filter = fields.take_filter(limits)?;
        fields.refuse_unknown()?;
        return Ok(Subscription::Matching(Box::new(filter)));
    };
    let refuse = |detail: &str| Problem::invalid(vec![Invalid::new("/filter/ids", detail)]);
    if filter.0.len() > 1 {
        return Err(refuse("ids stand alone: no other field of a filter goes with them"));
    }
    let ids: Option<HashSet<TaskId>> = match &filter.0[place].1 {
        Terms::List(ids) if ids.len() <= IDS_MAX => ids.iter().map(|id| id.parse().ok()).collect(),
        Terms::List(_) | Terms::Text(_) | Terms::Other => None,
    };
    ids.map(Subscription::Ids).ok_or_else(|| refuse("a list of at most 200 task ids is needed"))
}

fn close(code: CloseCode, reason: &str, ctx: &mut Ctx) {
    ctx.close(Some(CloseReason { code, description: Some(reason.to_owned()) }));
    ctx.stop();
}

impl Actor for LiveSocket {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        let owner = self.caller.subject.as_str().into();
        self.state.hub.do_send(SocketOpened { socket: self.id, owner, recipient: ctx.address().recipient() });
    }

    fn stopped(&mut self, _: &mut Ctx) {
        self.state.hub.do_send(SocketClosed { socket: self.id });
    }
}

impl Handler<Push> for LiveSocket {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Ctx) {
        match push {
            Push::Frames(frames) => frames.into_iter().for_each(|frame| ctx.text(frame)),
            Push::Close(code) => close(CloseCode::from(code), "too slow: connect again", ctx),
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for LiveSocket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        match message {
            Ok(Message::Text(text)) => self.handle_message(text.as_bytes(), ctx),
            Ok(Message::Ping(payload)) => ctx.pong(&payload),
            Ok(Message::Continuation(Item::FirstText(fragment))) => self.begin_message(&fragment, false, ctx),
            Ok(Message::Continuation(Item::FirstBinary(fragment))) => self.begin_message(&fragment, true, ctx),
            Ok(Message::Continuation(Item::Continue(fragment))) => self.append_fragment(&fragment, false, ctx),
            Ok(Message::Continuation(Item::Last(fragment))) => self.append_fragment(&fragment, true, ctx),
            Ok(Message::Binary(_)) => self.refuse(&text_only(), ctx),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            Err(ProtocolError::Overflow) => close(CloseCode::Size, "a message has at most 16384 bytes", ctx),
            Err(_) => close(CloseCode::Protocol, "no websocket frame", ctx),
        }
    }
}
