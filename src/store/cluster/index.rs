//! Which positions the events have. The database doesn't know them, and doesn't say of a stream's events where in its own log
//! they lie.
//!
//! Two parts, both in memory: for each 1,024 events a mark, at which a read of those that follow begins (64 bytes); and for
//! each stream the positions of its events (8 to 16 bytes an event, about 60 a stream).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::store::{Hash, Head};

/// Events from one mark to the next.
pub(super) const EVERY: u64 = 1024;

/// A place in the database's own log. Places grow, with gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    commit: u64,
    prepare: u64,
}

impl From<eventstore::Position> for Place {
    fn from(position: eventstore::Position) -> Self {
        Self { commit: position.commit, prepare: position.prepare }
    }
}

impl From<Place> for eventstore::Position {
    fn from(place: Place) -> Self {
        Self { commit: place.commit, prepare: place.prepare }
    }
}

/// The end of the first so many events: a read of those that follow begins here.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    /// Of the last event before the mark; 0 where there is none.
    pub(super) position: u64,
    /// Its place; none where there is none.
    pub(super) place: Option<Place>,
    /// Its hash.
    pub(super) hash: Hash,
}

/// Every event that was delivered.
pub(super) struct Index {
    /// At the positions 0, 1024, 2048…
    marks: RwLock<Vec<Mark>>,
    streams: RwLock<HashMap<Key, Vec<u64>>>,
}

/// A hash of a stream's name.
type Key = [u8; 16];

fn key(stream: &str) -> Key {
    let mut key = [0; 16];
    key.copy_from_slice(&blake3::hash(stream.as_bytes()).as_bytes()[..16]);
    key
}

impl Index {
    /// No event lies at the place `start` or before.
    pub(super) fn new(start: Option<Place>) -> Self {
        let start = Mark { position: 0, place: start, hash: Hash::ZERO };
        Self { marks: RwLock::new(vec![start]), streams: RwLock::default() }
    }

    /// How many events of the stream were delivered.
    pub(super) fn length(&self, stream: &str) -> u64 {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&key(stream)).map_or(0, |positions| positions.len() as u64)
    }

    /// Adds the next event of the log, which is the next of its stream too.
    pub(super) fn add(&self, stream: &str, head: Head, place: Place) {
        let position = head.position.0;
        self.streams.write().unwrap_or_else(PoisonError::into_inner).entry(key(stream)).or_default().push(position);
        if position.is_multiple_of(EVERY) {
            let mark = Mark { position, place: Some(place), hash: head.hash };
            self.marks.write().unwrap_or_else(PoisonError::into_inner).push(mark);
        }
    }

    /// The position of the stream's event of this revision; none where it was not delivered.
    pub(super) fn position(&self, stream: &str, revision: u64) -> Option<u64> {
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        streams.get(&key(stream))?.get(usize::try_from(revision).ok()?).copied()
    }

    /// The last mark at this position or before it.
    pub(super) fn mark(&self, position: u64) -> Option<Mark> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let index = usize::try_from(position / EVERY).unwrap_or(usize::MAX).min(marks.len().saturating_sub(1));
        marks.get(index).copied()
    }

    /// The hash of the event at this position, where there is a mark.
    pub(super) fn hash_at(&self, position: u64) -> Option<Hash> {
        self.mark(position).filter(|mark| mark.position == position).map(|mark| mark.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Position;

    #[test]
    fn a_read_begins_at_the_last_mark_before_it_and_a_stream_knows_its_positions() {
        let index = Index::new(None);
        for position in 1..=3000 {
            let hash = Hash([u8::try_from(position % 251).unwrap(); 32]);
            let stream = if position % 3 == 0 { "third" } else { "other" };
            let place = Place { commit: position * 10, prepare: position * 10 };
            index.add(stream, Head { position: Position(position), hash, time: None }, place);
        }
        let found = |position| index.mark(position).map(|mark| mark.position);
        assert_eq!([0, 1023, 1024, 1025, 2048, 9999].map(found), [0, 0, 1024, 1024, 2048, 2048].map(Some));
        assert_eq!((index.hash_at(1024), index.hash_at(1025)), (Some(Hash([20; 32])), None));
        assert_eq!((index.length("third"), index.length("other"), index.length("none")), (1000, 2000, 0));
        assert_eq!((index.position("third", 0), index.position("third", 999)), (Some(3), Some(3000)));
        assert_eq!((index.position("third", 1000), index.position("none", 0)), (None, None));
    }
}
