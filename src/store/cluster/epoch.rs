//! The id of the log, which Taskbell's API calls its epoch. It is the first event of the auxiliary stream `epoch`. The first
//! server writes it, all others read it. If a later read finds another id, or none, the address leads to another database
//! than before, and the log fails.

use eventstore::{
    AppendToStreamOptions, Client, Error, EventData, ExpectedRevision, ReadStreamOptions, StreamPosition,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::client::error_message;
use super::state::ClusterState;
use crate::store::ReadError;

/// How often the id is read before the check fails. If a node responds that it is not the leader, the client sends its next
/// request to the leader.
const READ_TRIES: u32 = 3;

#[derive(Serialize, Deserialize)]
struct EpochData {
    epoch: Uuid,
}

/// Checks that the client is connected to the database of this log. The first check of a process stores the id that it
/// finds; if the database has none, it writes one. The check needs a response of the leader, so its success also proves that
/// the client works.
///
/// # Errors
/// The id can't be read or written. Or it differs from the id of earlier checks: then the log has failed.
pub(super) async fn check_epoch(client: &Client, state: &ClusterState) -> Result<(), String> {
    let stream = state.url.names.auxiliary_name("epoch");
    let found = match (find_epoch(client, &stream).await?, state.epoch.get()) {
        (None, None) => {
            create_epoch(client, &stream, state.new_epoch).await?;
            find_epoch(client, &stream).await?
        }
        (found, _) => found,
    };
    // Two sessions may run this at the same time. Both find the same id.
    let id_of_log = found.map(|found| *state.epoch.get_or_init(|| found));
    if found.is_some() && id_of_log == found {
        return Ok(());
    }
    let failure = ReadError::Damaged("the store's address leads to another database than before".to_owned());
    state.fail(failure.clone());
    Err(failure.to_string())
}

/// The id in the database; `None` if there is none.
async fn find_epoch(client: &Client, stream: &str) -> Result<Option<Uuid>, String> {
    let mut tries = 1;
    loop {
        match read_epoch(client, stream).await {
            Ok(epoch) => return Ok(Some(epoch)),
            Err(Error::ResourceNotFound) => return Ok(None),
            Err(Error::NotLeaderException(_)) if tries < READ_TRIES => tries += 1,
            Err(error) => return Err(error_message(&error)),
        }
    }
}

async fn read_epoch(client: &Client, stream: &str) -> eventstore::Result<Uuid> {
    let options = ReadStreamOptions::default().position(StreamPosition::Start).max_count(1);
    let first = client.read_stream(stream, &options).await?.next().await?;
    let event = first.and_then(|first| first.event).ok_or(Error::ResourceNotFound)?;
    let EpochData { epoch } = event.as_json().map_err(|error| Error::InternalParsingError(error.to_string()))?;
    Ok(epoch)
}

/// Writes the id, unless another server has already written one.
async fn create_epoch(client: &Client, stream: &str, epoch: Uuid) -> Result<(), String> {
    let event = EventData::json("Epoch", &EpochData { epoch }).map_err(|error| error.to_string())?.id(epoch);
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::NoStream);
    match client.append_to_stream(stream, &options, event).await {
        // After a wrong expected version, another server has written the id first.
        Ok(_) | Err(Error::WrongExpectedVersion { .. }) => Ok(()),
        Err(error) => Err(error_message(&error)),
    }
}
