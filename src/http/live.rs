//! `GET /v1/live`: the websocket. The only file that names the websocket crate, which is deprecated upstream and stays
//! because it was asked for by name and measures no worse than its successor.
//!
//! Its traps, and what is done about each: an actor is not polled while its peer doesn't read, so the hub watches from
//! outside and the kernel ends a peer that never reads (`TCP_USER_TIMEOUT`, set by the server); `ctx.text` queues without
//! bound, so frames come through a bounded mailbox by `try_send`; fragments arrive as continuations, so they are joined
//! and capped here.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_http::ws::Item;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use actix_web_actors::ws::{self, CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use serde::Deserialize;
use serde_json::{Value, json};

use super::plumbing::caller::Caller;
use super::plumbing::error::Problem;
use super::plumbing::json;
use super::plumbing::query::Pairs;
use super::{AppState, bell};
use crate::push::hub::{Ask, Join, Leave, Push, SocketId, Subscription};
use crate::task::{Invalid, Position, TaskId};

/// A message from the client, its fragments joined, in bytes.
const MESSAGE_MAX: usize = 16 * 1024;
/// Ids of one subscription.
const IDS_MAX: usize = 200;
/// So many messages that can't be what they are, and the socket is closed.
const STRIKES: u8 = 3;
/// Pushes that wait for a slow reader; the hub keeps the rest as a mark.
const MAILBOX: usize = 4;

static SOCKETS: AtomicU64 = AtomicU64::new(1);

/// `GET /v1/live`.
///
/// # Errors
/// 400 where it is no websocket handshake.
pub async fn open(
    edge: web::Data<AppState>,
    caller: Caller,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    Pairs::of_query(request.query_string())?.done()?;
    let socket = SOCKETS.fetch_add(1, Ordering::Relaxed);
    let live = Live {
        socket,
        edge: edge.get_ref().clone(),
        caller,
        strikes: 0,
        parts: Vec::new(),
        binary: false,
        seeing: false,
        see_next: None,
    };
    ws::WsResponseBuilder::new(live, &request, payload).frame_size(MESSAGE_MAX).start().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "not_a_websocket", format!("a websocket handshake is needed: {error}"))
    })
}

/// A message from the client.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Wish {
    Subscribe { filter: Value },
    Unsubscribe {},
    Seen { position: Position },
    Resync {},
}

/// One socket.
struct Live {
    socket: SocketId,
    edge: AppState,
    caller: Caller,
    strikes: u8,
    /// Fragments of a message that is not complete yet.
    parts: Vec<u8>,
    /// They are of a binary message.
    binary: bool,
    /// A `seen` is on its way to the log.
    seeing: bool,
    /// The furthest that came meanwhile.
    see_next: Option<Position>,
}

type Ctx = WebsocketContext<Live>;

impl Live {
    fn hear(&mut self, text: &[u8], ctx: &mut Ctx) {
        let wish = json::parse(text).and_then(json::read::<Wish>);
        let asked = wish.and_then(|wish| {
            Ok(match wish {
                Wish::Subscribe { filter } => Some(Ask::Subscribe(self.socket, interest(&filter)?)),
                Wish::Unsubscribe {} => Some(Ask::Unsubscribe(self.socket)),
                Wish::Resync {} => Some(Ask::Resync(self.socket)),
                Wish::Seen { position } => {
                    self.see(position, ctx);
                    None
                }
            })
        });
        match asked.map(|ask| ask.map(|ask| self.edge.hub.try_send(ask))) {
            Err(problem) => self.strike(&problem, ctx),
            Ok(Some(Err(_))) => tell(&busy(), ctx),
            Ok(Some(Ok(())) | None) => {}
        }
    }

    /// One at a time; of those that come meanwhile, the furthest.
    fn see(&mut self, position: Position, ctx: &mut Ctx) {
        if self.seeing {
            self.see_next = self.see_next.max(Some(position));
            return;
        }
        self.seeing = true;
        let (edge, caller) = (self.edge.clone(), self.caller.clone());
        let seen = async move { bell::see(&edge, &caller, position).await };
        ctx.spawn(seen.into_actor(self).map(|answer, this, ctx| {
            this.seeing = false;
            if let Err(problem) = answer {
                tell(&problem, ctx);
            }
            if let Some(next) = this.see_next.take() {
                this.see(next, ctx);
            }
        }));
    }

    /// The message can't be what it is; the third such closes the socket.
    fn strike(&mut self, problem: &Problem, ctx: &mut Ctx) {
        tell(problem, ctx);
        self.strikes += 1;
        if self.strikes >= STRIKES {
            close(CloseCode::Policy, "three messages that can't be what they are", ctx);
        }
    }

    fn begin(&mut self, part: &[u8], binary: bool, ctx: &mut Ctx) {
        self.parts.clear();
        self.binary = binary;
        self.join(part, false, ctx);
    }

    fn join(&mut self, part: &[u8], last: bool, ctx: &mut Ctx) {
        if self.parts.len() + part.len() > MESSAGE_MAX {
            return close(CloseCode::Size, "a message has at most 16384 bytes", ctx);
        }
        self.parts.extend_from_slice(part);
        if last {
            let whole = std::mem::take(&mut self.parts);
            if std::mem::take(&mut self.binary) {
                return self.strike(&text_only(), ctx);
            }
            self.hear(&whole, ctx);
        }
    }
}

fn tell(problem: &Problem, ctx: &mut Ctx) {
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
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "too many wishes at once; ask again").retryable()
}

fn text_only() -> Problem {
    Problem::invalid_field("", "text frames only")
}

fn interest(filter: &Value) -> Result<Subscription, Problem> {
    let Some(ids) = filter.get("ids") else {
        let mut pairs = Pairs::of_filter(filter)?;
        let filter = pairs.filter()?;
        pairs.done()?;
        return Ok(Subscription::Matching(Box::new(filter)));
    };
    let refuse = |detail: &str| Problem::invalid(vec![Invalid::new("/filter/ids", detail)]);
    if filter.as_object().is_some_and(|fields| fields.len() > 1) {
        return Err(refuse("ids stand alone: no other field of a filter goes with them"));
    }
    let ids = ids.as_array().filter(|ids| ids.len() <= IDS_MAX);
    let ids: Option<HashSet<TaskId>> =
        ids.and_then(|ids| ids.iter().map(|id| id.as_str().and_then(|id| id.parse().ok())).collect());
    ids.map(Subscription::Ids).ok_or_else(|| refuse("a list of at most 200 task ids is needed"))
}

fn close(code: CloseCode, why: &str, ctx: &mut Ctx) {
    ctx.close(Some(CloseReason { code, description: Some(why.to_owned()) }));
    ctx.stop();
}

impl Actor for Live {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        ctx.set_mailbox_capacity(MAILBOX);
        let owner = self.caller.subject.as_str().into();
        self.edge.hub.do_send(Join { socket: self.socket, owner, to: ctx.address().recipient() });
    }

    fn stopped(&mut self, _: &mut Ctx) {
        self.edge.hub.do_send(Leave { socket: self.socket });
    }
}

impl Handler<Push> for Live {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Ctx) {
        match push {
            Push::Frames(frames) => frames.into_iter().for_each(|frame| ctx.text(frame)),
            Push::Close(code) => close(CloseCode::from(code), "too slow: connect again", ctx),
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Live {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        match message {
            Ok(Message::Text(text)) => self.hear(text.as_bytes(), ctx),
            Ok(Message::Ping(payload)) => ctx.pong(&payload),
            Ok(Message::Continuation(Item::FirstText(part))) => self.begin(&part, false, ctx),
            Ok(Message::Continuation(Item::FirstBinary(part))) => self.begin(&part, true, ctx),
            Ok(Message::Continuation(Item::Continue(part))) => self.join(&part, false, ctx),
            Ok(Message::Continuation(Item::Last(part))) => self.join(&part, true, ctx),
            Ok(Message::Binary(_)) => self.strike(&text_only(), ctx),
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
