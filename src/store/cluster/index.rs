//! The positions of all events of the log. The database doesn't store these positions. When a stream is read, it
//! doesn't return its events' positions in its own log either.
//!
//! The index has two parts, both in memory:
//! - One read start for each 1,024 events; it takes 64 bytes. A read of the log begins at a read start.
//! - For each stream, the positions of its events: 8 to 16 bytes for each event and about 60 bytes for each stream.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::store::{Hash, Head};

/// The number of events from one read start to the next.
pub(super) const READ_START_INTERVAL: u64 = 1024;

/// A position in the database's own log. These positions grow, with gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DatabasePosition {
    commit: u64,
    prepare: u64,
}

impl From<eventstore::Position> for DatabasePosition {
    fn from(position: eventstore::Position) -> Self {
        Self { commit: position.commit, prepare: position.prepare }
    }
}

impl From<DatabasePosition> for eventstore::Position {
    fn from(position: DatabasePosition) -> Self {
        Self { commit: position.commit, prepare: position.prepare }
    }
}

/// A known position of the log at which a read of the following events can begin.
#[derive(Clone, Copy)]
pub(super) struct ReadStart {
    /// Position of the last event before the read start; 0 if there is none.
    pub(super) position: u64,
    /// Position of that event in the database's own log; `None` for the beginning of the database's log.
    pub(super) in_database: Option<DatabasePosition>,
    /// Hash of that event.
    pub(super) hash: Hash,
}

/// The positions of every event that was delivered.
pub(super) struct Index {
    /// The read starts at the positions 0, 1024, 2048, …
    read_starts: RwLock<Vec<ReadStart>>,
    streams: RwLock<HashMap<StreamKey, Vec<u64>>>,
}

/// The first 16 bytes of the BLAKE3 hash of a stream's name.
type StreamKey = [u8; 16];

fn stream_key(stream: &str) -> StreamKey {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(stream.as_bytes()).as_bytes()[..16]);
    key
}

impl Index {
    /// An empty index. All events of the log come after the database position `start`.
    pub(super) fn new(start: Option<DatabasePosition>) -> Self {
        let start = ReadStart { position: 0, in_database: start, hash: Hash::ZERO };
        Self { read_starts: RwLock::new(vec![start]), streams: RwLock::default() }
    }

    /// The number of events of the stream that were delivered.
    pub(super) fn delivered_count(&self, stream: &str) -> u64 {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&stream_key(stream)).map_or(0, |positions| positions.len() as u64)
    }

    /// Adds the next event of the log, which is also the next event of its stream. `head` is the position and hash of this
    /// event.
    pub(super) fn add(&self, stream: &str, head: Head, in_database: DatabasePosition) {
        let position = head.position.0;
        self.streams
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(stream_key(stream))
            .or_default()
            .push(position);
        if position.is_multiple_of(READ_START_INTERVAL) {
            let read_start = ReadStart { position, in_database: Some(in_database), hash: head.hash };
            self.read_starts.write().unwrap_or_else(PoisonError::into_inner).push(read_start);
        }
    }

    /// The position of the stream's event of this revision; `None` if the event was not delivered.
    pub(super) fn position(&self, stream: &str, revision: u64) -> Option<u64> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&stream_key(stream))?.get(usize::try_from(revision).ok()?).copied()
    }

    /// The last read start that is at or before this position.
    pub(super) fn read_start_before(&self, position: u64) -> Option<ReadStart> {
        let read_starts = self.read_starts.read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(position / READ_START_INTERVAL)
            .unwrap_or(usize::MAX)
            .min(read_starts.len().saturating_sub(1));
        read_starts.get(index).copied()
    }

    /// The hash of the event at this position; `None` if there is no read start at the position.
    pub(super) fn hash_at(&self, position: u64) -> Option<Hash> {
        self.read_start_before(position).filter(|start| start.position == position).map(|start| start.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Position;

    #[test]
    fn a_read_begins_at_the_last_read_start_before_it_and_a_stream_knows_its_positions() {
        let index = Index::new(None);
        for position in 1..=3000 {
            let hash = Hash([u8::try_from(position % 251).unwrap(); 32]);
            let stream = if position % 3 == 0 { "third" } else { "other" };
            let in_database = DatabasePosition { commit: position * 10, prepare: position * 10 };
            index.add(stream, Head { position: Position(position), hash, time: None }, in_database);
        }
        let found = |position| index.read_start_before(position).map(|start| start.position);
        assert_eq!([0, 1023, 1024, 1025, 2048, 9999].map(found), [0, 0, 1024, 1024, 2048, 2048].map(Some));
        assert_eq!((index.hash_at(1024), index.hash_at(1025)), (Some(Hash([20; 32])), None));
        assert_eq!(
            (index.delivered_count("third"), index.delivered_count("other"), index.delivered_count("none")),
            (1000, 2000, 0)
        );
        assert_eq!((index.position("third", 0), index.position("third", 999)), (Some(3), Some(3000)));
        assert_eq!((index.position("third", 1000), index.position("none", 0)), (None, None));
    }
}
