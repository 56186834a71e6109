//! The actor of one socket.

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Handler, StreamHandler, WrapFuture};
use actix_http::ws::Item;
use actix_web_actors::ws::{CloseCode, CloseReason, Message, ProtocolError, WebsocketContext};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::MESSAGE_MAX;
use super::headers::Violation;
use super::incoming::EndOfFrames;
use super::messages::{self, ClientRequest};
use super::outgoing::EncodedBytes;
use crate::http::AppState;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::connection::ClientConnection;
use crate::http::plumbing::error::{Problem, Refusal};
use crate::http::plumbing::quota::QuotaPermit;
use crate::http::plumbing::scope::visible_scope;
use crate::push::backlog::Backlog;
use crate::push::messages::{
    Closing, CredentialEnded, Push, SocketClosed, SocketId, SocketOpened, SocketRequest, bytes_of,
};
use crate::push::pusher::Pusher;
use crate::task::Position;
use crate::views::Scope;

/// The socket is closed after this many invalid messages.
const INVALID_MAX: u8 = 3;

/// What a socket shares with its connection and with the streams of its frames.
pub(super) struct Wires {
    pub(super) connection: ClientConnection,
    pub(super) end: EndOfFrames,
    pub(super) encoded: EncodedBytes,
    pub(super) backlog: Backlog,
}

/// The actor of one socket.
pub(super) struct LiveSocket {
    id: SocketId,
    state: AppState,
    caller: Caller,
    /// Whose bell the socket gets.
    bell: Scope,
    wires: Wires,
    invalid_messages: u8,
    /// The joined fragments of a message that is not complete yet. Together they are within the limit of a message.
    fragments: Vec<u8>,
    /// Whether the fragments belong to a binary message.
    is_binary: bool,
    /// Whether the position of a `seen` message is being recorded.
    is_marking_seen: bool,
    /// The highest position of the `seen` messages that have arrived during the recording.
    next_seen: Option<Position>,
    /// Waits for the end of the caller's credential.
    wait_for_credential: Option<JoinHandle<()>>,
    /// The socket counts as open until this is dropped.
    _permit: QuotaPermit,
}

type Ctx = WebsocketContext<LiveSocket>;

impl LiveSocket {
    pub(super) fn new(
        id: SocketId,
        state: AppState,
        (caller, bell): (Caller, Scope),
        wires: Wires,
        permit: QuotaPermit,
    ) -> Self {
        Self {
            id,
            state,
            caller,
            bell,
            wires,
            invalid_messages: 0,
            fragments: Vec::new(),
            is_binary: false,
            is_marking_seen: false,
            next_seen: None,
            wait_for_credential: None,
            _permit: permit,
        }
    }

    /// Begins to wait for the end of the caller's credential. This actor is not polled while its client reads nothing, so it
    /// doesn't wait itself, and the hub closes the socket. The hub must know the socket already.
    fn close_with_credential(&mut self) {
        let (identity, reader, hub) = (self.caller.identity.clone(), self.state.reader.clone(), self.state.hub.clone());
        let socket = self.id;
        if identity.can_end() {
            self.wait_for_credential = Some(actix_rt::spawn(async move {
                identity.wait_for_end(&reader).await;
                hub.do_send(CredentialEnded { socket });
            }));
        }
    }

    fn handle_message(&mut self, text: &[u8], ctx: &mut Ctx) {
        match messages::parse(self.id, text, &self.caller, &self.state.limits) {
            Ok(ClientRequest::ToHub(request)) => self.send_to_hub(request, ctx),
            Ok(ClientRequest::Seen(position)) => self.mark_seen(position, ctx),
            Err(problem) => self.refuse(&problem, ctx),
        }
    }

    /// Sends the request to the hub. The client's next message is handled after the hub has handled this one, so a client
    /// can't fill the hub's mailbox.
    fn send_to_hub(&mut self, request: SocketRequest, ctx: &mut Ctx) {
        let answer = self.state.hub.send(request).into_actor(self);
        ctx.wait(answer.map(|answer, _, ctx| {
            if answer.is_err() {
                send_problem(&hub_has_stopped(), ctx);
            }
        }));
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
            close(CloseCode::Policy, "three invalid messages", ctx);
        }
    }

    fn begin_message(&mut self, fragment: &[u8], is_binary: bool) {
        self.is_binary = is_binary;
        self.fragments = fragment.to_vec();
    }

    fn end_message(&mut self, ctx: &mut Ctx) {
        let message = std::mem::take(&mut self.fragments);
        if self.is_binary {
            self.refuse(&text_only(), ctx);
        } else if std::str::from_utf8(&message).is_err() {
            close(CloseCode::Invalid, NOT_UTF_8, ctx);
        } else {
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

fn hub_has_stopped() -> Problem {
    Problem::new(Refusal::Busy, "the server can't send changes now; connect again")
}

fn text_only() -> Problem {
    Problem::invalid_field("", "only text frames are accepted")
}

const NOT_UTF_8: &str = "a text message must be UTF-8";

fn close(code: CloseCode, reason: &str, ctx: &mut Ctx) {
    ctx.close(Some(CloseReason { code, description: Some(reason.to_owned()) }));
    ctx.stop();
}

impl Actor for LiveSocket {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        let connection = self.wires.connection.clone();
        self.state.hub.do_send(SocketOpened {
            socket: self.id,
            bell: self.bell.clone(),
            viewer: self.caller.subject().into(),
            visible: visible_scope(&self.caller),
            recipient: ctx.address().recipient(),
            pusher: Pusher::of_this_thread(),
            backlog: self.wires.backlog.clone(),
            abort: Box::new(move || connection.abort()),
        });
        self.close_with_credential();
    }

    fn stopped(&mut self, _: &mut Ctx) {
        if let Some(wait) = self.wait_for_credential.take() {
            wait.abort();
        }
        self.state.hub.do_send(SocketClosed { socket: self.id });
    }
}

impl Handler<Push> for LiveSocket {
    type Result = ();

    fn handle(&mut self, push: Push, ctx: &mut Ctx) {
        match push {
            Push::Frames(frames) => {
                self.wires.encoded.set(self.wires.encoded.get() + bytes_of(&frames));
                for frame in frames {
                    ctx.text(&*frame);
                }
            }
            Push::Close(Closing::Stalled) => close(CloseCode::Again, "the client reads too slowly; connect again", ctx),
            Push::Close(Closing::CredentialEnded) => close(CloseCode::Policy, "the credential has ended", ctx),
            Push::Close(Closing::ServerEnds) => close(CloseCode::Away, "the server stops; connect again", ctx),
        }
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for LiveSocket {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut Ctx) {
        match message {
            Ok(Message::Text(text)) => self.handle_message(text.as_bytes(), ctx),
            Ok(Message::Ping(payload)) => ctx.pong(&payload),
            Ok(Message::Continuation(Item::FirstText(fragment))) => self.begin_message(&fragment, false),
            Ok(Message::Continuation(Item::FirstBinary(fragment))) => self.begin_message(&fragment, true),
            Ok(Message::Continuation(Item::Continue(fragment))) => self.fragments.extend_from_slice(&fragment),
            Ok(Message::Continuation(Item::Last(fragment))) => {
                self.fragments.extend_from_slice(&fragment);
                self.end_message(ctx);
            }
            Ok(Message::Binary(_)) => self.refuse(&text_only(), ctx),
            Ok(Message::Pong(_) | Message::Nop) => {}
            Ok(Message::Close(reason)) => {
                ctx.close(reason);
                ctx.stop();
            }
            // The crate reports a text message that isn't UTF-8 as `Io`. Other `Io` errors don't occur here, because `incoming`
            // ends the stream before.
            Err(ProtocolError::Io(_)) => close(CloseCode::Invalid, NOT_UTF_8, ctx),
            Err(error) => close(CloseCode::Protocol, &error.to_string(), ctx),
        }
    }

    /// The client's frames have ended: because the client has closed the connection, or because `incoming` reads no more.
    fn finished(&mut self, ctx: &mut Ctx) {
        match self.wires.end.get() {
            Some(Violation::TooLong) => {
                close(CloseCode::Size, &format!("a message has at most {MESSAGE_MAX} bytes"), ctx);
            }
            Some(Violation::Protocol(what)) => close(CloseCode::Protocol, what, ctx),
            None => ctx.stop(),
        }
    }
}
