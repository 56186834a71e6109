//! Copies a log into a cluster: the same events in the same order, byte for byte. So the positions and hashes are the same in
//! the cluster. The log's id is the same too: for the log's clients it is the same log at another address.
//!
//! In a cluster the order of commits determines the position of an event. So an append is sent only after the append before
//! it was delivered. The hash of each delivered event is compared with the hash of the original; a hash covers all earlier
//! events.
//!
//! This process or a later import may send an append a second time. It then has the same event ids and the same expected
//! revision as the first time, so the database writes the events only once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{AppendError, EncodedAppend, EventStore, Fact, Hash, OpenError, ReadError, Recorded, StoreUrl};
use crate::task::Position;

/// The number of events in one page. Each page ends at a position that is a multiple of this number, and no append reaches
/// beyond its page. So an import that continues an earlier one divides the events into the same appends.
const PAGE_EVENTS: u64 = 1000;
/// The largest number of events in one append.
const APPEND_EVENTS: usize = 100;
/// The largest size of one append in bytes, unless a single event is larger. The database's default limit is 1 MiB.
const APPEND_BYTES: usize = 512 * 1024;
/// How long the import waits for the cluster to deliver the next event or to become healthy.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// The result of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Position of the last event in both logs.
    pub position: Position,
    /// Hash of the last event in both logs.
    pub hash: Hash,
    /// The number of events that this call has copied. An earlier import has copied the other events.
    pub copied: u64,
}

/// The progress of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportProgress {
    /// The cluster holds the events up to this position.
    Copied(Position),
    /// The events up to this position were read from the cluster and are the same as the originals.
    Verified(Position),
}

/// Why a log was not imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The log to import can't be opened. The most frequent reason is that its server still runs.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log to import can't be read, or is damaged.
    #[error("the log that is to be imported: {0}")]
    Source(ReadError),
    /// The cluster doesn't respond. A later import continues at the position where this one has stopped.
    #[error("the import has stopped at position {at}: {why}")]
    Unreachable {
        /// Position of the last event that is known to be in the cluster.
        at: Position,
        /// Why the import can't continue.
        why: String,
    },
    /// The cluster holds another log under this prefix. Nothing was written.
    #[error("{0}")]
    Refused(String),
    /// The cluster refuses an event because of its size. The events before it were copied.
    #[error("{0}")]
    EventTooLarge(String),
    /// The cluster's log differs from the original. The copied events are useless; a new import needs another prefix.
    #[error("{0}")]
    Different(String),
}

/// Copies the log in the folder `data` to the cluster. If an earlier import has copied a part of the log, this one copies
/// the rest. At the end it compares every event of the two logs. Returns the result and the log in the cluster.
///
/// The folder is locked during the import. No server may use the cluster's prefix yet, because nothing else may write to it.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    data: &Path,
    target: &StoreUrl,
    report: &mut (dyn FnMut(ImportProgress) + Send),
) -> Result<(Imported, EventStore), ImportError> {
    let source = &EventStore::open(data)?;
    let cluster = EventStore::connect_with_epoch(target.clone(), source.epoch())?;
    wait_until_caught_up(&cluster, PROGRESS_TIMEOUT).await?;
    let (mut copied_up_to, mut hash) = copied_so_far(source, &cluster).await?;
    let copied_before = copied_up_to;
    while let Some(events) = read_next_page(source, copied_up_to, hash).await? {
        for batch in split_into_batches(&events) {
            (copied_up_to, hash) = append_batch(&cluster, batch, copied_up_to).await?;
        }
        report(ImportProgress::Copied(copied_up_to));
    }
    drop(cluster);
    let copy = verify(source, target, report).await?;
    Ok((Imported { position: copied_up_to, hash, copied: copied_up_to.0 - copied_before.0 }, copy))
}

/// Why a store has not received all events of its log.
pub(crate) enum NotCaughtUp {
    /// The log has failed for the rest of this process.
    Failed(ReadError),
    /// For too long, no event has arrived after this position.
    NoProgress { at: Position, why: String },
}

impl From<NotCaughtUp> for ImportError {
    fn from(error: NotCaughtUp) -> Self {
        match error {
            NotCaughtUp::Failed(failure) => Self::Refused(failure.to_string()),
            NotCaughtUp::NoProgress { at, why } => Self::Unreachable { at, why },
        }
    }
}

/// Waits until the store has received all events of its log. Fails if it has received no event for `progress_timeout`.
pub(crate) async fn wait_until_caught_up(store: &EventStore, progress_timeout: Duration) -> Result<(), NotCaughtUp> {
    let mut received = store.head().position;
    loop {
        let healthy = tokio::select! {
            healthy = tokio::time::timeout(progress_timeout, store.wait_for_health(true)) => healthy.is_ok(),
            failure = store.wait_for_failure() => return Err(NotCaughtUp::Failed(failure)),
        };
        let now = store.head().position;
        match store.health() {
            _ if healthy => return Ok(()),
            Err(why) if now == received => return Err(NotCaughtUp::NoProgress { at: now, why }),
            Ok(()) | Err(_) => received = now,
        }
    }
}

/// Position and hash of the last event that an earlier import has copied; 0 and [`Hash::ZERO`] if there was none.
///
/// # Errors
/// [`ImportError::Refused`] if the cluster holds another log, or has events that the log to import doesn't have.
async fn copied_so_far(source: &EventStore, target: &EventStore) -> Result<(Position, Hash), ImportError> {
    let head = target.head();
    let (source_epoch, target_epoch) = (source.epoch(), target.epoch());
    if source_epoch != target_epoch {
        return Err(ImportError::Refused(format!(
            "the cluster holds another log under this prefix: its id is {target_epoch}, that of the log to import {source_epoch}"
        )));
    }
    let last = head.position.0.checked_sub(1).map(Position);
    let original = match last {
        Some(before) => source.read_all(before, 1).await.map_err(ImportError::Source)?.first().map(|event| event.hash),
        None => Some(Hash::ZERO),
    };
    match original {
        Some(hash) if hash == head.hash => Ok((head.position, hash)),
        Some(_) => Err(ImportError::Refused(format!(
            "the cluster holds another log under this prefix: it differs at position {} or before",
            head.position
        ))),
        None => Err(ImportError::Refused(format!(
            "the cluster is at position {}, beyond the end of the log to import: a server has written to the cluster since the import",
            head.position
        ))),
    }
}

/// Reads the next page of the log to import and checks its hashes; `None` at the end of the log. `hash` is the hash of the
/// event at the position `after`.
async fn read_next_page(
    source: &EventStore,
    after: Position,
    hash: Hash,
) -> Result<Option<Vec<Arc<Recorded>>>, ImportError> {
    let events = source.read_all(after, rest_of_page(after)).await.map_err(ImportError::Source)?;
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

/// The number of events from this position to the end of its page.
fn rest_of_page(after: Position) -> usize {
    usize::try_from(PAGE_EVENTS - after.0 % PAGE_EVENTS).unwrap_or(1)
}

/// Divides the events into batches. The events of a batch are consecutive, belong to one stream and are few enough for one
/// append.
fn split_into_batches(events: &[Arc<Recorded>]) -> Vec<&[Arc<Recorded>]> {
    let mut batches = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, event) in events.iter().enumerate() {
        let is_same_stream = events.get(first).is_some_and(|first| first.stream == event.stream);
        if index > first && (!is_same_stream || index - first == APPEND_EVENTS || bytes + event.size() > APPEND_BYTES) {
            batches.extend(events.get(first..index));
            (first, bytes) = (index, 0);
        }
        bytes += event.size();
    }
    batches.extend(events.get(first..).filter(|batch| !batch.is_empty()));
    batches
}

/// Appends one batch and waits until it was delivered. Returns the position and hash of its last event. `copied_up_to` is
/// the position of the last event that was copied before.
async fn append_batch(
    target: &EventStore,
    batch: &[Arc<Recorded>],
    copied_up_to: Position,
) -> Result<(Position, Hash), ImportError> {
    let (Some(append), Some(last)) = (EncodedAppend::from_recorded(batch), batch.last()) else {
        return Ok((copied_up_to, Hash::ZERO));
    };
    let result = target.append_encoded(vec![append]).await.pop();
    match result.unwrap_or_else(|| Err(AppendError::Unavailable("no result".to_owned()))) {
        Ok(_) => {}
        Err(AppendError::WrongExpectedRevision { .. }) => return Err(foreign_write_error(last)),
        Err(AppendError::TooLarge(why)) => {
            let size: usize = batch.iter().map(|event| event.size()).sum();
            return Err(ImportError::EventTooLarge(format!(
                "the append that ends with event {} has {size} bytes: {why}",
                last.position
            )));
        }
        Err(AppendError::ReadOnly(why)) => return Err(ImportError::Different(why)),
        Err(error @ AppendError::Invalid(_)) => return Err(ImportError::Different(error.to_string())),
        Err(error @ (AppendError::Unavailable(_) | AppendError::Unknown(_))) => {
            return Err(ImportError::Unreachable { at: copied_up_to, why: error.to_string() });
        }
    }
    wait_until_received(target, last.position, copied_up_to).await?;
    let head = target.head();
    if (head.position, head.hash) == (last.position, last.hash) {
        Ok((last.position, last.hash))
    } else {
        Err(foreign_write_error(last))
    }
}

/// Waits until the store has received the event of this position.
async fn wait_until_received(
    target: &EventStore,
    position: Position,
    copied_up_to: Position,
) -> Result<(), ImportError> {
    let mut head = target.head_changes();
    let arrived = tokio::select! {
        arrived = tokio::time::timeout(PROGRESS_TIMEOUT, head.wait_for(|head| *head >= position)) => arrived.is_ok(),
        failure = target.wait_for_failure() => return Err(ImportError::Different(failure.to_string())),
    };
    if arrived {
        return Ok(());
    }
    let why = target.health().err().unwrap_or_else(|| "the event was not delivered".to_owned());
    Err(ImportError::Unreachable { at: copied_up_to, why })
}

/// The error if another event than this one has got its position or revision in the cluster.
fn foreign_write_error(event: &Recorded) -> ImportError {
    let Fact { position, stream, .. } = &event.fact;
    ImportError::Different(format!(
        "event {position} of {stream} is not at its place in the cluster: something else wrote to this prefix meanwhile"
    ))
}

/// Reads the cluster's log from its beginning over new connections and compares each event with its original. Returns the
/// store with these connections.
async fn verify(
    source: &EventStore,
    target: &StoreUrl,
    report: &mut (dyn FnMut(ImportProgress) + Send),
) -> Result<EventStore, ImportError> {
    let copy = EventStore::connect_with_epoch(target.clone(), source.epoch())?;
    wait_until_caught_up(&copy, PROGRESS_TIMEOUT).await?;
    let mut at = Position(0);
    loop {
        let originals = source.read_all(at, rest_of_page(at)).await.map_err(ImportError::Source)?;
        let copies = copy.read_all(at, rest_of_page(at)).await.map_err(|error| copy_read_error(error, at))?;
        let is_same = |(original, copy): (&Arc<Recorded>, &Arc<Recorded>)| {
            (original.position, original.id, original.hash) == (copy.position, copy.id, copy.hash)
        };
        if originals.len() != copies.len() || !originals.iter().zip(&copies).all(is_same) {
            return Err(ImportError::Different(format!("the copy differs within 1,000 events after position {at}")));
        }
        match originals.last() {
            Some(last) => at = last.position,
            None => return Ok(copy),
        }
        report(ImportProgress::Verified(at));
    }
}

/// The error of a read of the copy after the position `at`.
fn copy_read_error(error: ReadError, at: Position) -> ImportError {
    match error {
        ReadError::Unavailable(why) => ImportError::Unreachable { at, why },
        error @ (ReadError::Damaged(_) | ReadError::Unknown { .. }) => ImportError::Different(error.to_string()),
    }
}
