//! The move of a log into a cluster: the same events in the same order, byte for byte, so that positions and hashes are the
//! same there. The log keeps its id too: for its clients it is the same log at another address.
//!
//! An event's position in a cluster is its place in the order of commits. So an append is sent only when the one before it
//! has been delivered, and each delivered event is compared with its original by the hash, which covers all events before.
//! What is sent again, by this process or by a later one, has the same ids at the same expected revisions: the database
//! writes it once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{AppendError, EncodedAppend, EventStore, Hash, OpenError, ReadError, Recorded, StoreUrl};
use crate::task::Position;

/// Events that are read at once. A page ends at a multiple of it and an append within its page: an import that continues
/// another one divides the events in the same way, so that what it sends again are the same appends.
const PAGE: u64 = 1000;
/// Events that one append holds at most.
const APPEND: usize = 100;
/// Bytes of one append, unless a single event is larger. The database's default limit is 1 MiB.
const APPEND_BYTES: usize = 512 * 1024;
/// How long the cluster may take for its next answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Position of the last event in both logs.
    pub position: Position,
    /// Its hash in both logs.
    pub hash: Hash,
    /// Events that this call has copied; the others were there before.
    pub copied: u64,
}

/// How far the import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The cluster holds the events up to this position.
    Copied(Position),
    /// The events up to this position were read back and are the same.
    Verified(Position),
}

/// Why a log was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The log can't be opened: most often, because its server still runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log can't be read, or is damaged.
    #[error("the log that is to be imported: {0}")]
    Source(ReadError),
    /// The cluster doesn't answer. Another import continues where this one has ended.
    #[error("the import has stopped at position {at}: {why}")]
    Unreachable {
        /// Position of the last event that is known to be in the cluster.
        at: Position,
        /// Why it goes no further.
        why: String,
    },
    /// The cluster holds another log under this prefix. Nothing was written.
    #[error("{0}")]
    Refused(String),
    /// The cluster's log is not the same. What was copied is of no use; another prefix is needed.
    #[error("{0}")]
    Different(String),
}

/// Copies the log in the folder `data` to the cluster, continues a copy that was begun, and compares every event at the end.
/// Returns the log in the cluster too.
///
/// The folder is locked meanwhile. Nothing else may write to the cluster's prefix: no server runs on it yet.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    data: &Path,
    to: &StoreUrl,
    report: &mut (dyn FnMut(Step) + Send),
) -> Result<(Imported, EventStore), ImportError> {
    let from = &EventStore::open(data)?;
    let to_cluster = EventStore::connect_as(to.clone(), from.epoch())?;
    ready(&to_cluster).await?;
    let (mut done, mut hash) = begun(from, &to_cluster).await?;
    let before = done;
    while let Some(events) = page(from, done, hash).await? {
        for append in appends(&events) {
            (done, hash) = copy(&to_cluster, append, done).await?;
        }
        report(Step::Copied(done));
    }
    drop(to_cluster);
    let copy = verify(from, to, report).await?;
    Ok((Imported { position: done, hash, copied: done.0 - before.0 }, copy))
}

/// Waits until the store has received everything. An empty database answers at once, a large log takes its time.
async fn ready(store: &EventStore) -> Result<(), ImportError> {
    let mut received = store.head().position;
    loop {
        let healthy = tokio::select! {
            healthy = tokio::time::timeout(PATIENCE, store.wait_for_health(true)) => healthy.is_ok(),
            failure = store.failure() => return Err(ImportError::Refused(failure.to_string())),
        };
        let now = store.head().position;
        match store.health() {
            _ if healthy => return Ok(()),
            Err(why) if now == received => return Err(ImportError::Unreachable { at: now, why }),
            Ok(()) | Err(_) => received = now,
        }
    }
}

/// Position and hash of the last event that the cluster holds of this log.
async fn begun(from: &EventStore, to: &EventStore) -> Result<(Position, Hash), ImportError> {
    let head = to.head();
    let (log, there) = (from.epoch(), to.epoch());
    if log != there {
        return Err(ImportError::Refused(format!(
            "the cluster holds another log under this prefix: its id is {there}, that of the log to import {log}"
        )));
    }
    let last = head.position.0.checked_sub(1).map(Position);
    let original = match last {
        Some(before) => from.read_all(before, 1).await.map_err(ImportError::Source)?.first().map(|event| event.hash),
        None => Some(Hash::ZERO),
    };
    match original {
        Some(hash) if hash == head.hash => Ok((head.position, hash)),
        Some(_) => Err(ImportError::Refused(format!(
            "the cluster holds another log under this prefix: it differs at position {} or before",
            head.position
        ))),
        None => Err(ImportError::Refused(format!(
            "the cluster is at position {}, beyond the end of the log to import: a server has written to it since",
            head.position
        ))),
    }
}

/// The next events of the log to import, whose hashes continue the chain; none at its end.
async fn page(from: &EventStore, after: Position, hash: Hash) -> Result<Option<Vec<Arc<Recorded>>>, ImportError> {
    let events = from.read_all(after, rest_of_page(after)).await.map_err(ImportError::Source)?;
    let mut hash = hash;
    for event in &events {
        hash = event.expected_hash(hash);
        if event.hash != hash {
            let what = format!("event {} doesn't continue the chain", event.position);
            return Err(ImportError::Source(ReadError::Damaged(what)));
        }
    }
    Ok((!events.is_empty()).then_some(events))
}

fn rest_of_page(after: Position) -> usize {
    usize::try_from(PAGE - after.0 % PAGE).unwrap_or(1)
}

/// The events in runs of one stream, each small enough for one append.
fn appends(events: &[Arc<Recorded>]) -> Vec<&[Arc<Recorded>]> {
    let mut runs = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (at, event) in events.iter().enumerate() {
        let is_next = events.get(first).is_some_and(|begin| begin.stream == event.stream);
        if at > first && (!is_next || at - first == APPEND || bytes + event.size() > APPEND_BYTES) {
            runs.extend(events.get(first..at));
            (first, bytes) = (at, 0);
        }
        bytes += event.size();
    }
    runs.extend(events.get(first..).filter(|run| !run.is_empty()));
    runs
}

/// Appends one run and waits until it has been delivered; position and hash of its last event.
async fn copy(to: &EventStore, run: &[Arc<Recorded>], at: Position) -> Result<(Position, Hash), ImportError> {
    let (Some(append), Some(last)) = (EncodedAppend::copy(run), run.last()) else { return Ok((at, Hash::ZERO)) };
    let answer = to.append_encoded(vec![append]).await.pop();
    match answer.unwrap_or_else(|| Err(AppendError::Unavailable("no answer".to_owned()))) {
        Ok(_) => {}
        Err(AppendError::WrongExpectedRevision { .. }) => return Err(interfered(last)),
        Err(AppendError::TooLarge(why)) => {
            let size: usize = run.iter().map(|event| event.size()).sum();
            return Err(ImportError::Refused(format!("event {} has {size} bytes: {why}", last.position)));
        }
        Err(AppendError::ReadOnly(why)) => return Err(ImportError::Different(why)),
        Err(error @ (AppendError::Unavailable(_) | AppendError::Unknown(_))) => {
            return Err(ImportError::Unreachable { at, why: error.to_string() });
        }
    }
    received(to, last.position, at).await?;
    let head = to.head();
    if (head.position, head.hash) == (last.position, last.hash) {
        Ok((last.position, last.hash))
    } else {
        Err(interfered(last))
    }
}

/// Waits until the store has received the event of this position.
async fn received(to: &EventStore, position: Position, at: Position) -> Result<(), ImportError> {
    let mut head = to.watch();
    let arrived = tokio::select! {
        arrived = tokio::time::timeout(PATIENCE, head.wait_for(|head| *head >= position)) => arrived.is_ok(),
        failure = to.failure() => return Err(ImportError::Different(failure.to_string())),
    };
    if arrived {
        return Ok(());
    }
    let why = to.health().err().unwrap_or_else(|| "the event was not delivered".to_owned());
    Err(ImportError::Unreachable { at, why })
}

fn interfered(event: &Recorded) -> ImportError {
    let Recorded { position, stream, .. } = event;
    ImportError::Different(format!(
        "event {position} of {stream} is not at its place in the cluster: something else wrote to this prefix meanwhile"
    ))
}

/// Reads the cluster's log from its beginning, with new connections, and compares each event with its original.
async fn verify(
    from: &EventStore,
    to: &StoreUrl,
    report: &mut (dyn FnMut(Step) + Send),
) -> Result<EventStore, ImportError> {
    let copy = EventStore::connect_as(to.clone(), from.epoch())?;
    ready(&copy).await?;
    let mut at = Position(0);
    loop {
        let originals = from.read_all(at, rest_of_page(at)).await.map_err(ImportError::Source)?;
        let copies = copy.read_all(at, rest_of_page(at)).await.map_err(|error| unread(error, at))?;
        let same = |(original, copy): (&Arc<Recorded>, &Arc<Recorded>)| {
            (original.position, original.id, original.hash) == (copy.position, copy.id, copy.hash)
        };
        if originals.len() != copies.len() || !originals.iter().zip(&copies).all(same) {
            return Err(ImportError::Different(format!("the copy differs within 1,000 events after position {at}")));
        }
        match originals.last() {
            Some(last) => at = last.position,
            None => return Ok(copy),
        }
        report(Step::Verified(at));
    }
}

fn unread(error: ReadError, at: Position) -> ImportError {
    match error {
        ReadError::Unavailable(why) => ImportError::Unreachable { at, why },
        error @ (ReadError::Damaged(_) | ReadError::Unknown { .. }) => ImportError::Different(error.to_string()),
    }
}
