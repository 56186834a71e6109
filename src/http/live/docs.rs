//! The description of the route.

use actix_web::http::StatusCode;

use crate::http::plumbing::error::Refusal;
use crate::http::plumbing::openapi::operation::{Answer, Operation};
use crate::http::plumbing::openapi::parameters::query;
use crate::http::plumbing::openapi::schema::{owner_or_everyone, written_text};

pub fn open() -> Operation {
    Operation::new("live", "openLive", "Open a websocket")
        .describe(
            "After the handshake (RFC 6455) each side sends text frames with one JSON object: the server `LiveServerMessage`, the \
             client `LiveClientMessage` of the components.\n\n\
             1. The server sends `hello` and `snapshot`, and then `counters` after each change of the counts. If \
             `previous` is not the position of the client's last counts, the client sends `resync` and gets a `snapshot`.\n\
             2. After `subscribe` the server sends `subscribed`, and then `tasks` or `tasks_changed` after each change of a task \
             that the filter matches.\n\
             3. A client that reads slowly gets the newest counts instead of all of them.\n\n\
             The server closes a socket with 1008 after three invalid messages, with 1009 if a message has more than 16 KiB, \
             with 1007 if it is not UTF-8, with 1013 if the client reads nothing for 30 seconds (`socket_stall_s`), and with 1001 \
             when the server stops.",
        )
        .parameters([
            query("owner", "Whose counts: one name, or `*` for everyone. Default: as in `GET /v1/counters`.", owner_or_everyone()),
            query("ticket", "Instead of another credential: a ticket of `POST /v1/tickets`.", written_text()),
        ])
        .refuses(&[Refusal::NotAWebsocket, Refusal::NotFound, Refusal::InvalidRequest, Refusal::Overloaded])
        .answers(Answer::empty(StatusCode::SWITCHING_PROTOCOLS, "The websocket is open."))
}
