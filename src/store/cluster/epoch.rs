//! The id of the log: the first event of a stream beside it. The first server writes it, all others read it. A database in
//! which it is another one, or none any more, is not the one that this process has read.

use eventstore::{
    AppendToStreamOptions, Client, Error, EventData, ExpectedRevision, ReadStreamOptions, StreamPosition,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::describe;
use super::shared::Shared;
use crate::store::ReadError;

/// The client goes to the leader by itself once a node has named it.
const TRIES: u32 = 3;

#[derive(Serialize, Deserialize)]
struct Epoch {
    epoch: Uuid,
}

/// Checks that the client is connected to the database of this log; at first it takes over the id that it finds, or creates
/// one. It needs an answer of the leader, so it also shows that the client is of use.
///
/// # Errors
/// Why that is unknown, or that it is another database; then the log has failed.
pub(super) async fn check(client: &Client, shared: &Shared) -> Result<(), String> {
    let stream = shared.url.names.beside("epoch");
    let found = match (find(client, &stream).await?, shared.epoch.get()) {
        (None, None) => {
            create(client, &stream, shared.new_epoch).await?;
            find(client, &stream).await?
        }
        (found, _) => found,
    };
    // Two sessions may come here at the same time, and both find the same.
    let known = found.map(|found| *shared.epoch.get_or_init(|| found));
    if found.is_some() && known == found {
        return Ok(());
    }
    let failure = ReadError::Damaged("the store's address leads to another database than before".to_owned());
    shared.fail(failure.clone());
    Err(failure.to_string())
}

async fn find(client: &Client, stream: &str) -> Result<Option<Uuid>, String> {
    let mut tries = 1;
    loop {
        match read(client, stream).await {
            Ok(epoch) => return Ok(Some(epoch)),
            Err(Error::ResourceNotFound) => return Ok(None),
            Err(Error::NotLeaderException(_)) if tries < TRIES => tries += 1,
            Err(error) => return Err(describe(&error)),
        }
    }
}

async fn read(client: &Client, stream: &str) -> eventstore::Result<Uuid> {
    let options = ReadStreamOptions::default().position(StreamPosition::Start).max_count(1);
    let first = client.read_stream(stream, &options).await?.next().await?;
    let event = first.and_then(|first| first.event).ok_or(Error::ResourceNotFound)?;
    let Epoch { epoch } = event.as_json().map_err(|error| Error::InternalParsingError(error.to_string()))?;
    Ok(epoch)
}

async fn create(client: &Client, stream: &str, epoch: Uuid) -> Result<(), String> {
    let event = EventData::json("Epoch", &Epoch { epoch }).map_err(|error| error.to_string())?.id(epoch);
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::NoStream);
    match client.append_to_stream(stream, &options, event).await {
        // Another server may have been first.
        Ok(_) | Err(Error::WrongExpectedVersion { .. }) => Ok(()),
        Err(error) => Err(describe(&error)),
    }
}
