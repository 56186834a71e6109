//! The newest durable events in memory: the end of the log, the last events, and a signal when events are added.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Head, Recorded, StreamName};
use crate::task::{IdMap, Position, Revision};

/// How many events stay in memory.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The largest number of events.
    pub(super) events: usize,
    /// The largest total length of their `meta` and `data`, in bytes.
    pub(super) bytes: usize,
    /// Whether the events are also indexed by stream. Without this index [`RecentEvents::stream`] always returns `None`.
    pub(super) by_stream: bool,
}

impl Bounds {
    pub(super) const UNLIMITED: Self = Self { events: usize::MAX, bytes: usize::MAX, by_stream: false };
}

/// The newest events of a log, and its head. Several threads may read while one publishes.
pub(super) struct RecentEvents {
    bounds: Bounds,
    contents: RwLock<RecentContents>,
    /// The position of the head, for those that wait for new events.
    head: watch::Sender<Position>,
}

/// The head and the events, which change together.
struct RecentContents {
    head: Head,
    /// Consecutive events; the last one is the head.
    events: VecDeque<RecentEvent>,
    bytes: usize,
    /// The position of the last event of each stream, if that event is in memory. The number of entries is bounded, so that a
    /// client which chose names that collide would gain little.
    stream_ends: IdMap<StreamName, Position>,
}

/// An event, and its neighbours in its stream. A new stream is often read again: it is found from its last event backwards.
struct RecentEvent {
    event: Arc<Recorded>,
    /// The position of the stream's event before this one. That event may have left the memory meanwhile.
    previous: Option<Position>,
    /// Whether it is the last event of its stream.
    ends_stream: bool,
}

impl RecentContents {
    fn push(&mut self, event: Arc<Recorded>, by_stream: bool) {
        self.bytes += event.size();
        let previous = by_stream.then(|| self.stream_ends.insert(event.stream.clone(), event.position)).flatten();
        if let Some(previous) = previous.and_then(|previous| self.index(previous)) {
            self.events[previous].ends_stream = false;
        }
        self.events.push_back(RecentEvent { event, previous, ends_stream: by_stream });
    }

    /// Removes the oldest event; returns `None` if there is none.
    fn pop(&mut self) -> Option<Arc<Recorded>> {
        let RecentEvent { event, ends_stream, .. } = self.events.pop_front()?;
        self.bytes -= event.size();
        if ends_stream {
            self.stream_ends.remove(&event.stream);
        }
        Some(event)
    }

    /// The index of the event at this position; `None` if it is not in memory.
    fn index(&self, position: Position) -> Option<usize> {
        let first = self.events.front()?.event.position.0;
        usize::try_from(position.0.checked_sub(first)?).ok().filter(|index| *index < self.events.len())
    }
}

impl RecentEvents {
    pub(super) fn new(head: Head, bounds: Bounds) -> Self {
        let (events, stream_ends) = (VecDeque::new(), IdMap::default());
        let contents = RwLock::new(RecentContents { head, events, bytes: 0, stream_ends });
        Self { bounds, contents, head: watch::Sender::new(head.position) }
    }

    pub(super) fn head(&self) -> Head {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).head
    }

    pub(super) fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Adds `events`, sets the head and then notifies the receivers of [`RecentEvents::head_changes`]. The events must be
    /// durable and must be all events after the old head up to `head`. Returns the events that are not kept any more. To drop
    /// them takes time, so the caller does it after the requests have their results.
    pub(super) fn publish(&self, events: impl IntoIterator<Item = Arc<Recorded>>, head: Head) -> Vec<Arc<Recorded>> {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            contents.push(event, self.bounds.by_stream);
        }
        let mut removed = Vec::new();
        while contents.events.len() > self.bounds.events || contents.bytes > self.bounds.bytes {
            let Some(event) = contents.pop() else { break };
            removed.push(event);
        }
        contents.head = head;
        drop(contents);
        self.head.send_replace(head.position);
        removed
    }

    /// All events of the stream; `None` if its first event is not in memory.
    pub(super) fn stream(&self, stream: &StreamName) -> Option<Vec<Arc<Recorded>>> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        let mut last = &contents.events[contents.index(*contents.stream_ends.get(stream)?)?];
        let mut events = vec![Arc::clone(&last.event)];
        while last.event.revision > Revision(0) {
            last = &contents.events[contents.index(last.previous?)?];
            events.push(Arc::clone(&last.event));
        }
        events.reverse();
        Some(events)
    }

    /// At most `limit` events after a position (exclusive); `None` if the first of them is not in memory. The page
    /// ends with the event at which the total length of `meta` and `data` reaches `bytes`, or with event number `limit`.
    pub(super) fn page(&self, after: Position, limit: usize, bytes: usize) -> Option<Vec<Arc<Recorded>>> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        if after >= contents.head.position {
            return Some(Vec::new());
        }
        let skip = contents.index(Position(after.0 + 1))?;
        let mut size: usize = 0;
        let has_room = |event: &&Arc<Recorded>| {
            let has_room = size < bytes;
            size += event.size();
            has_room
        };
        Some(
            contents
                .events
                .range(skip..)
                .map(|recent| &recent.event)
                .take(limit)
                .take_while(has_room)
                .cloned()
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Append, EventStore, Expected, Hash, Meta, NewEvent, Via, new_id, now};
    use crate::task::bell::{BellEvent, Seen};

    /// Events of the streams of these owners, in this order.
    async fn events(owners: &[&str]) -> Vec<Arc<Recorded>> {
        let store = EventStore::memory();
        for owner in owners {
            let meta = Meta {
                actor: "mira".to_owned(),
                via: Via::Http,
                correlation_id: new_id(),
                causation_id: None,
                request_id: None,
            };
            let seen = BellEvent::Seen(Seen { position: Position(1) });
            let event = NewEvent { id: new_id(), time: now(), meta, event: seen.into() };
            let stream = StreamName::bell(owner);
            let last = store.read_stream(&stream, Revision(0)).await.unwrap().last().map(|last| last.revision);
            let expected = last.map_or(Expected::NoStream, Expected::Revision);
            store.append(Append { stream, expected, events: vec![event] }).await.unwrap();
        }
        store.read_all(Position(0), usize::MAX).await.unwrap()
    }

    fn positions(events: &[Arc<Recorded>]) -> Vec<u64> {
        events.iter().map(|event| event.position.0).collect()
    }

    #[tokio::test]
    async fn a_stream_is_in_memory_until_its_first_event_leaves_it() {
        let bounds = Bounds { events: 4, bytes: usize::MAX, by_stream: true };
        let recent = RecentEvents::new(Head { position: Position(0), hash: Hash::ZERO, time: None }, bounds);
        let stream = |owner| recent.stream(&StreamName::bell(owner)).map(|events| positions(&events));
        let log = events(&["ann", "bob", "ann", "cid", "ann", "cid", "bob"]).await;
        let publish = |from: usize, to: usize| {
            let head = Head { position: Position(to as u64), ..recent.head() };
            positions(&recent.publish(log[from..to].iter().cloned(), head))
        };
        assert_eq!(publish(0, 4), [0; 0]);
        assert_eq!([stream("ann"), stream("bob"), stream("cid")], [Some(vec![1, 3]), Some(vec![2]), Some(vec![4])]);
        assert_eq!(publish(4, 6), [1, 2], "the oldest events leave");
        assert_eq!([stream("ann"), stream("bob"), stream("cid")], [None, None, Some(vec![4, 6])]);
        assert_eq!(publish(6, 7), [3]);
        assert_eq!([stream("ann"), stream("bob"), stream("cid")], [None, None, Some(vec![4, 6])]);
        assert_eq!(recent.page(Position(2), 9, usize::MAX).map(|page| positions(&page)), None);
        assert_eq!(recent.page(Position(4), 2, usize::MAX).map(|page| positions(&page)), Some(vec![5, 6]));
        let contents = recent.contents.read().unwrap();
        assert_eq!(contents.stream_ends.len(), 3, "a stream is indexed while an event of it is in memory");
    }
}
