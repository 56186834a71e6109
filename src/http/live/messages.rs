//! The messages of a client.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::http::plumbing::error::Problem;
use crate::http::plumbing::json;
use crate::http::plumbing::query::Fields;
use crate::push::messages::{SocketId, SocketRequest, Subscription};
use crate::task::{Invalid, Position, TaskId};

/// The most task ids in one subscription.
const IDS_MAX: usize = 200;

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum ClientMessage {
    Subscribe { filter: Value },
    Unsubscribe {},
    Seen { position: Position },
    Resync {},
}

/// What a message asks for.
pub(super) enum Wanted {
    /// This of the hub.
    OfHub(SocketRequest),
    /// To record that the caller has seen the bell up to this position.
    Seen(Position),
}

/// Reads a message of this socket's client.
///
/// # Errors
/// 400 or 422, as for a request.
pub(super) fn parse(socket: SocketId, message: &[u8]) -> Result<Wanted, Problem> {
    Ok(match json::parse(message).and_then(json::decode::<ClientMessage>)? {
        ClientMessage::Subscribe { filter } => {
            Wanted::OfHub(SocketRequest::Subscribe(socket, parse_subscription(&filter)?))
        }
        ClientMessage::Unsubscribe {} => Wanted::OfHub(SocketRequest::Unsubscribe(socket)),
        ClientMessage::Resync {} => Wanted::OfHub(SocketRequest::Resync(socket)),
        ClientMessage::Seen { position } => Wanted::Seen(position),
    })
}

/// Reads the filter of a `subscribe` message: either `ids`, or the fields of a task filter.
fn parse_subscription(filter: &Value) -> Result<Subscription, Problem> {
    let Some(ids) = filter.get("ids") else {
        let mut fields = Fields::from_filter(filter)?;
        let filter = fields.take_filter()?;
        fields.refuse_unknown()?;
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
