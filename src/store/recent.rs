//! The newest durable events in memory: the end of the log, the last events, and a signal when events are added.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Head, Recorded, StreamName};
use crate::task::{Position, Revision};

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
    events: VecDeque<Arc<Recorded>>,
    bytes: usize,
    /// The same events by stream. A new stream is often read again.
    streams: HashMap<StreamName, VecDeque<Arc<Recorded>>>,
}

impl RecentContents {
    fn push(&mut self, event: Arc<Recorded>, by_stream: bool) {
        self.bytes += event.size();
        if by_stream {
            self.streams.entry(event.stream.clone()).or_default().push_back(Arc::clone(&event));
        }
        self.events.push_back(event);
    }

    /// Removes the oldest event; returns false if there is none.
    fn pop(&mut self) -> bool {
        let Some(oldest) = self.events.pop_front() else { return false };
        self.bytes -= oldest.size();
        if let Some(stream) = self.streams.get_mut(&oldest.stream) {
            stream.pop_front();
            if stream.is_empty() {
                self.streams.remove(&oldest.stream);
            }
        }
        true
    }
}

impl RecentEvents {
    pub(super) fn new(head: Head, bounds: Bounds) -> Self {
        let contents = RwLock::new(RecentContents { head, events: VecDeque::new(), bytes: 0, streams: HashMap::new() });
        Self { bounds, contents, head: watch::Sender::new(head.position) }
    }

    pub(super) fn head(&self) -> Head {
        self.contents.read().unwrap_or_else(PoisonError::into_inner).head
    }

    pub(super) fn head_changes(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Adds `events`, sets the head and then notifies the receivers of [`RecentEvents::head_changes`]. The events must be
    /// durable and must be all events after the old head up to `head`.
    pub(super) fn publish(&self, events: impl IntoIterator<Item = Arc<Recorded>>, head: Head) {
        let mut contents = self.contents.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            contents.push(event, self.bounds.by_stream);
        }
        while (contents.events.len() > self.bounds.events || contents.bytes > self.bounds.bytes) && contents.pop() {}
        contents.head = head;
        drop(contents);
        self.head.send_replace(head.position);
    }

    /// All events of the stream; `None` if its first event is not in memory.
    pub(super) fn stream(&self, stream: &StreamName) -> Option<Vec<Arc<Recorded>>> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        let events = contents.streams.get(stream)?;
        let is_complete = events.front()?.revision == Revision(0);
        is_complete.then(|| events.iter().cloned().collect())
    }

    /// At most `limit` events after a position (exclusive); `None` if the first of them is not in memory. The page
    /// ends with the event at which the total length of `meta` and `data` reaches `bytes`, or with event number `limit`.
    pub(super) fn page(&self, after: Position, limit: usize, bytes: usize) -> Option<Vec<Arc<Recorded>>> {
        let contents = self.contents.read().unwrap_or_else(PoisonError::into_inner);
        if after >= contents.head.position {
            return Some(Vec::new());
        }
        let first = contents.events.front()?.position.0;
        let skip = usize::try_from((after.0 + 1).checked_sub(first)?).ok()?;
        let mut size: usize = 0;
        let has_room = |event: &&Arc<Recorded>| {
            let has_room = size < bytes;
            size += event.size();
            has_room
        };
        Some(contents.events.iter().skip(skip).take(limit).take_while(has_room).cloned().collect())
    }
}
