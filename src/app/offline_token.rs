//! Creates an API token in a log itself, without a server. So an admin gets the first token, before any token exists: in the data
//! folder of a stopped server, or in a cluster, whose servers may run.

use std::path::Path;
#[cfg(feature = "eventstore")]
use std::time::Duration;

use serde_json::value::RawValue;

use crate::http::Problem;
use crate::http::identity::bearer::BearerText;
use crate::http::identity::new_token::{NewToken, TokenRequest};
use crate::http::tokens::document_of_new;
#[cfg(feature = "eventstore")]
use crate::store::StoreUrl;
#[cfg(feature = "eventstore")]
use crate::store::import::{NotCaughtUp, wait_until_caught_up};
use crate::store::{
    Append, AppendError, EventStore, Expected, Meta, NewEvent, OpenError, ReadError, StreamName, Via, new_id, now,
};
use crate::task::token::{Token, TokenCommand};
use crate::task::{Decider as _, Rejection, Revision, Timestamp};

/// How long a cluster may deliver no event before it counts as unreachable.
#[cfg(feature = "eventstore")]
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(10);

/// A token that was created in a log.
#[derive(Debug)]
pub struct OfflineToken {
    /// The text of the token. It can't be read again.
    pub text: BearerText,
    /// The same JSON document as in the response to `POST /v1/tokens`.
    pub document: Box<RawValue>,
}

/// Why no token was created.
#[derive(Debug, thiserror::Error)]
pub enum OfflineTokenError {
    /// The log can't be opened, for example because a server uses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The request breaks a rule.
    #[error("{}", .0.detail)]
    Refused(Problem),
    /// The rules reject the command.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The log can't be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The cluster doesn't deliver its log. The field says why, also if it refuses the user or the password.
    #[error("{0}")]
    Unreachable(String),
}

/// Creates a token in the log of this folder. The folder is created if it is missing. `actor` is recorded as its creator.
///
/// # Errors
/// See [`OfflineTokenError`].
pub async fn create_token_offline(
    data: &Path,
    request: TokenRequest,
    actor: &str,
) -> Result<OfflineToken, OfflineTokenError> {
    let at = now();
    let new = request.make(at).map_err(OfflineTokenError::Refused)?;
    append(&EventStore::open(data)?, new, at, actor).await
}

/// Creates a token in the log of this cluster. `actor` is recorded as its creator. Servers on this log accept the token as soon
/// as they have received its event.
///
/// First it reads the whole log, because the position of the new event depends on it. So it also notices a log that this
/// version can't read, before it writes to it.
///
/// # Errors
/// See [`OfflineTokenError`].
#[cfg(feature = "eventstore")]
pub async fn create_token_on_cluster(
    url: StoreUrl,
    request: TokenRequest,
    actor: &str,
) -> Result<OfflineToken, OfflineTokenError> {
    let at = now();
    let new = request.make(at).map_err(OfflineTokenError::Refused)?;
    let store = EventStore::connect(url)?;
    wait_until_caught_up(&store, PROGRESS_TIMEOUT).await.map_err(|error| match error {
        NotCaughtUp::Failed(failure) => OfflineTokenError::Read(failure),
        NotCaughtUp::NoProgress { why, .. } => OfflineTokenError::Unreachable(why),
    })?;
    append(&store, new, at, actor).await
}

/// Appends the first event of the token's stream.
async fn append(
    store: &EventStore,
    new: NewToken,
    at: Timestamp,
    actor: &str,
) -> Result<OfflineToken, OfflineTokenError> {
    let decided = Token::default().decide(&TokenCommand::Create(new.created), at)?;
    let meta =
        Meta { actor: actor.to_owned(), via: Via::Cli, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = |event| NewEvent { id: new_id(), time: at, meta: meta.clone(), event };
    let events = decided.into_iter().map(|decided| event(decided.into())).collect();
    let stream = StreamName::token(new.id);
    store.append(Append { stream: stream.clone(), expected: Expected::NoStream, events }).await?;
    let recorded = store.read_stream(&stream, Revision(0)).await?;
    let document = recorded.first().and_then(|first| document_of_new(new.id, &new.text, first));
    let missing = || ReadError::Damaged("the log doesn't hold the event that was appended".to_owned());
    Ok(OfflineToken { text: new.text, document: document.ok_or_else(missing)? })
}
