//! The messages of a client.

use std::collections::HashSet;

use serde::Deserialize;

use crate::http::limits::ClientLimits;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::http::plumbing::filter::{SentFilter, Terms};
use crate::http::plumbing::json;
use crate::http::plumbing::query::Fields;
use crate::http::plumbing::scope::take_scope;
use crate::push::messages::{SocketId, SocketRequest, Subscription};
use crate::task::access::Action;
use crate::task::{Invalid, Position, TaskId};

/// The maximum number of task ids in one subscription.
const IDS_MAX: usize = 200;

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

/// A valid message of the client.
pub(super) enum ClientRequest {
    /// A request to the hub.
    ToHub(SocketRequest),
    /// The request to record that the caller has seen the bell up to this position.
    Seen(Position),
}

/// Reads a message of this socket's client.
///
/// # Errors
/// 400, 404 or 422, as for a request.
pub(super) fn parse(
    socket: SocketId,
    message: &[u8],
    caller: &Caller,
    limits: &ClientLimits,
) -> Result<ClientRequest, Problem> {
    json::parse::<ClientMessage>(message)?.into_request(socket, caller, limits)
}

impl ClientMessage {
    /// Checks that the message has the fields of its type and no others.
    fn into_request(self, socket: SocketId, caller: &Caller, limits: &ClientLimits) -> Result<ClientRequest, Problem> {
        let Self { kind, filter, position } = self;
        let refuse = |pointer: &str, detail: &str| Err(Problem::invalid_field(pointer, detail));
        match (kind, filter, position) {
            (MessageKind::Subscribe, Some(filter), None) => {
                let subscription = parse_subscription(filter, caller, limits)?;
                Ok(ClientRequest::ToHub(SocketRequest::Subscribe(socket, subscription)))
            }
            (MessageKind::Unsubscribe, None, None) => Ok(ClientRequest::ToHub(SocketRequest::Unsubscribe(socket))),
            (MessageKind::Seen, None, Some(position)) => {
                caller.check(Action::MarkSeen)?;
                Ok(ClientRequest::Seen(position))
            }
            (MessageKind::Resync, None, None) => Ok(ClientRequest::ToHub(SocketRequest::Resync(socket))),
            (MessageKind::Subscribe, None, _) => refuse("/filter", "required in a message `subscribe`"),
            (MessageKind::Seen, _, None) => refuse("/position", "required in a message `seen`"),
            (MessageKind::Unsubscribe | MessageKind::Seen | MessageKind::Resync, Some(_), _) => {
                refuse("/filter", "only allowed in a message `subscribe`")
            }
            (MessageKind::Subscribe | MessageKind::Unsubscribe | MessageKind::Resync, _, Some(_)) => {
                refuse("/position", "only allowed in a message `seen`")
            }
        }
    }
}

/// Reads the filter of a `subscribe` message: either `ids`, or the fields of a task filter. The hub sends none of the `ids`
/// whose tasks the caller may not see.
fn parse_subscription(filter: SentFilter, caller: &Caller, limits: &ClientLimits) -> Result<Subscription, Problem> {
    let Some(place) = filter.0.iter().position(|(name, _)| name == "ids") else {
        let mut fields = Fields::from_filter(filter)?;
        let scope = take_scope(&mut fields, caller, limits)?;
        let filter = fields.take_filter(limits, scope)?;
        fields.refuse_unknown()?;
        return Ok(Subscription::Matching(Box::new(filter)));
    };
    let refuse = |detail: &str| Problem::invalid(vec![Invalid::new("/filter/ids", detail)]);
    if filter.0.len() > 1 {
        return Err(refuse("`ids` can't be combined with other filter fields"));
    }
    let ids: Option<HashSet<TaskId>> = match &filter.0[place].1 {
        Terms::List(ids) if ids.len() <= IDS_MAX => ids.iter().map(|id| id.parse().ok()).collect(),
        Terms::List(_) | Terms::Text(_) | Terms::Other => None,
    };
    ids.map(Subscription::Ids).ok_or_else(|| refuse("a list of at most 200 task ids is needed"))
}
