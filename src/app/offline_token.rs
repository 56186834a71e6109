//! Creates an API token in the data folder of a stopped server. So an admin gets the first token, before any token exists.

use std::path::Path;

use serde_json::value::RawValue;

use crate::http::Problem;
use crate::http::identity::bearer::BearerText;
use crate::http::identity::new_token::TokenRequest;
use crate::http::tokens::document_of_new;
use crate::store::{
    Append, AppendError, EventStore, Expected, Meta, NewEvent, OpenError, ReadError, StreamName, Via, new_id, now,
};
use crate::task::token::{Token, TokenCommand};
use crate::task::{Decider as _, Rejection, Revision};

/// A token that was created in a data folder.
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
    let decided = Token::default().decide(&TokenCommand::Create(new.created), at)?;
    let meta =
        Meta { actor: actor.to_owned(), via: Via::Cli, correlation_id: new_id(), causation_id: None, request_id: None };
    let event = |event| NewEvent { id: new_id(), time: at, meta: meta.clone(), event };
    let events = decided.into_iter().map(|decided| event(decided.into())).collect();
    let (store, stream) = (EventStore::open(data)?, StreamName::token(new.id));
    store.append(Append { stream: stream.clone(), expected: Expected::NoStream, events }).await?;
    let recorded = store.read_stream(&stream, Revision(0)).await?;
    let document = recorded.first().and_then(|first| document_of_new(new.id, &new.text, first));
    let missing = || ReadError::Damaged("the log doesn't hold the event that was appended".to_owned());
    Ok(OfflineToken { text: new.text, document: document.ok_or_else(missing)? })
}
