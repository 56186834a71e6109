//! `GET /v1/live`: the websocket. The only file that names the websocket crate, which is deprecated upstream and stays
//! because it was asked for by name and measures no worse than its successor.
//!
//! Its traps, and what is done about each:
//!
//! - An actor is not polled while its client doesn't read. So the hub decides from outside that a socket has stalled, and
//!   the kernel ends the connection of a client that never reads (`TCP_USER_TIMEOUT`, set by the server).
//! - `ctx.text` queues without bound. So frames arrive through a bounded mailbox, by `try_send`.
//! - Fragments arrive as continuations. So they are joined here, up to the size of a message.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_http::ws::Item;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AppState;
use super::plumbing::caller::Caller;
use super::plumbing::error::{Problem, Refusal};
use super::plumbing::filter::{SentFilter, Terms};
use super::plumbing::json;
use super::plumbing::query::Fields;
use crate::push::messages::{Join, Leave, Push, SocketId, SocketRequest, Subscription};
use crate::task::{Invalid, Position, TaskId};

/// A message from the client, its fragments joined, in bytes.
const MESSAGE_MAX: usize = 16 * 1024;
/// The most ids of one subscription.
const IDS_MAX: usize = 200;
/// The socket is closed after this many invalid messages.
const INVALID_MAX: u8 = 3;
/// Pushes that wait for a slow client. The hub keeps the rest, not as frames but as a set of what has changed.
const MAILBOX: usize = 4;

static SOCKETS: AtomicU64 = AtomicU64::new(1);

/// `GET /v1/live`.
///
/// # Errors
/// 400 where it isn't a websocket handshake.
pub async fn open(
    state: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let actor = Socket {
        id: SOCKETS.fetch_add(1, Ordering::Relaxed),
        state: state.get_ref().clone(),
        caller,
        invalid_messages: 0,
        parts: Vec::new(),
        binary: false,
        is_marking_seen: false,
        next_seen: None,
    };
    ws::WsResponseBuilder::new(actor, &request, payload)
        .frame_size(MESSAGE_MAX)
        .start()
        .map_err(|error| Problem::new(Refusal::NotAWebsocket, format!("a websocket handshake is needed: {error}")))
}

/// A message from the client. (A tagged enum of serde would not read it from its text, but from a copy of the parsed JSON.)
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

/// What a message asks for.
enum Wish {
    Subscribe(Subscription),
    Unsubscribe,
    Seen(Position),
    Resync,
}

impl ClientMessage {
    fn check(self) -> Result<Wish, Problem> {
        let Self { kind, filter, position } = self;
        let needs = |pointer: &str, detail: &str| Err(Problem::invalid_field(pointer, detail));
        match (kind, filter, position) {
            (MessageKind::Subscribe, None, _) => needs("/filter", "subscribe needs it"),
            (MessageKind::Seen, _, None) => needs("/position", "seen needs it"),
            (MessageKind::Subscribe, Some(filter), None) => subscription(filter).map(Wish::Subscribe),
            (MessageKind::Seen, None, Some(position)) => Ok(Wish::Seen(position)),
            (MessageKind::Unsubscribe, None, None) => Ok(Wish::Unsubscribe),
            (MessageKind::Resync, None, None) => Ok(Wish::Resync),
            (_, Some(_), _) => needs("/filter", "it goes with subscribe"),
            (_, None, Some(_)) => needs("/position", "it goes with seen"),
        }
    }
}

/// The actor of one socket.
struct Socket {
    id: SocketId,
    state: AppState,
    caller: Caller,
    invalid_messages: u8,
    /// Fragments of a message that is not complete yet.
    parts: Vec<u8>,
    /// The fragments belong to a binary message.
    binary: bool,
    /// A `seen` is being recorded.
    is_marking_seen: bool,
    /// The highest `seen` that arrived meanwhile.
    next_seen: Option<Position>,
}

type Ctx = WebsocketContext<Socket>;

impl Socket {
    fn handle_message(&mut self, text: &[u8], ctx: &mut Ctx) {
        let request = match json::read_bytes::<ClientMessage>(text).and_then(ClientMessage::check) {
            Err(problem) => return self.refuse(&problem, ctx),
            Ok(Wish::Seen(position)) => return self.mark_seen(position, ctx),
            Ok(Wish::Subscribe(subscription)) => SocketRequest::Subscribe(self.id, subscription),
            Ok(Wish::Unsubscribe) => SocketRequest::Unsubscribe(self.id),
            Ok(Wish::Resync) => SocketRequest::Resync(self.id),
        };
        if self.state.hub.try_send(request).is_err() {
            send_problem(&busy(), ctx);
        }
    }

    /// Records one `seen` at a time. Of those that arrive meanwhile only the highest is recorded next.
    fn mark_seen(&mut self, position: Position, ctx: &mut Ctx) {
        if self.is_marking_seen {
            self.next_seen = self.next_seen.max(Some(position));
            return;
        }
        self.is_marking_seen = true;
        let (state, caller) = (self.state.clone(), self.caller.clone());
        let marked = async move { state.mark_seen(&caller, position).await };
        ctx.spawn(marked.into_actor(self).map(|answer, this, ctx| {
            this.is_marking_seen = false;
            if let Err(problem) = answer {
                send_problem(&problem, ctx);
            }
            if let Some(next) = this.next_seen.take() {
                this.mark_seen(next, ctx);
            }
        }));
    }

    /// Answers an invalid message with its problem; the third closes the socket.
    fn refuse(&mut self, problem: &Problem, ctx: &mut Ctx) {
        send_problem(problem, ctx);
        self.invalid_messages += 1;
        if self.invalid_messages >= INVALID_MAX {
            close(CloseCode::Policy, "three messages that can't be what they are", ctx);
        }
    }

    fn begin_message(&mut self, part: &[u8], binary: bool, ctx: &mut Ctx) {
        self.parts.clear();
        self.binary = binary;
        self.append_part(part, false, ctx);
    }

    fn append_part(&mut self, part: &[u8], last: bool, ctx: &mut Ctx) {
        if self.parts.len() + part.len() > MESSAGE_MAX {
            return close(CloseCode::Size, "a message has at most 16384 bytes", ctx);
        }
        self.parts.extend_from_slice(part);
        if last {
            let whole = std::mem::take(&mut self.parts);
            if std::mem::take(&mut self.binary) {
                return self.refuse(&text_only(), ctx);
            }
            self.handle_message(&whole, ctx);
        }
    }
}

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

fn busy() -> Problem {
    Problem::new(Refusal::Busy, "too many wishes at once; ask again")
}

fn text_only() -> Problem {
    Problem::invalid_field("", "text frames only")
}

fn subscription(filter: SentFilter) -> Result<Subscription, Problem> {
    let Some(place) = filter.0.iter().position(|(name, _)| name == "ids") else {
        let mut fields = Fields::of_filter(filter)?;
        let filter = fields.filter()?;
        fields.refuse_rest()?;
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

fn close(code: CloseCode, why: &str, ctx: &mut Ctx) {
    ctx.close(Some(CloseReason { code, description: Some(why.to_owned()) }));
    ctx.stop();
}

impl Actor for Socket {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        let owner = self.caller.subject.as_str().into();
        self.state.hub.do_send(Join { socket: self.id, owner, to: ctx.address().recipient() });
    }

    fn stopped(&mut self, _: &mut Ctx) {
        self.state.hub.do_send(Leave { socket: self.id });
    }
}

impl Handler<Push> for Socket {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Ctx) {
        match push {
            Push::Frames(frames) => frames.into_iter().for_each(|frame| ctx.text(frame)),
            Push::Close(code) => close(CloseCode::from(code), "too slow: connect again", ctx),
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Socket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        match message {
            Ok(Message::Text(text)) => self.handle_message(text.as_bytes(), ctx),
            Ok(Message::Ping(payload)) => ctx.pong(&payload),
            Ok(Message::Continuation(Item::FirstText(part))) => self.begin_message(&part, false, ctx),
            Ok(Message::Continuation(Item::FirstBinary(part))) => self.begin_message(&part, true, ctx),
            Ok(Message::Continuation(Item::Continue(part))) => self.append_part(&part, false, ctx),
            Ok(Message::Continuation(Item::Last(part))) => self.append_part(&part, true, ctx),
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
