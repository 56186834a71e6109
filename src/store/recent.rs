//! The newest durable events, kept in memory: where the log ends, its last events, and the signal that it has grown.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Head, Recorded, StreamName};
use crate::task::{Position, Revision};

/// What is kept at most.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events: usize,
    /// Of `meta` and `data`.
    pub(super) bytes: usize,
    /// Whether [`RecentEvents::stream`] finds anything.
    pub(super) by_stream: bool,
}

impl Bounds {
    pub(super) const NONE: Self = Self { events: usize::MAX, bytes: usize::MAX, by_stream: false };
}

pub(super) struct RecentEvents {
    bounds: Bounds,
    ring: RwLock<Ring>,
    head: watch::Sender<Position>,
}

struct Ring {
    head: Head,
    /// Consecutive, up to the head.
    events: VecDeque<Arc<Recorded>>,
    bytes: usize,
    /// The same events by stream: a stream that has just begun is often read again soon.
    streams: HashMap<StreamName, VecDeque<Arc<Recorded>>>,
}

impl Ring {
    fn push(&mut self, event: Arc<Recorded>, by_stream: bool) {
        self.bytes += event.size();
        if by_stream {
            self.streams.entry(event.stream.clone()).or_default().push_back(Arc::clone(&event));
        }
        self.events.push_back(event);
    }

    /// Removes the oldest event; false where there is none.
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
        let ring = RwLock::new(Ring { head, events: VecDeque::new(), bytes: 0, streams: HashMap::new() });
        Self { bounds, ring, head: watch::Sender::new(head.position) }
    }

    pub(super) fn head(&self) -> Head {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).head
    }

    pub(super) fn watch(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Adds `events`, which are durable and lie between the old head and the new one, and then sends the signal.
    pub(super) fn publish(&self, events: impl IntoIterator<Item = Arc<Recorded>>, head: Head) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            ring.push(event, self.bounds.by_stream);
        }
        while (ring.events.len() > self.bounds.events || ring.bytes > self.bounds.bytes) && ring.pop() {}
        ring.head = head;
        drop(ring);
        self.head.send_replace(head.position);
    }

    /// The whole stream; none where its first event is not here.
    pub(super) fn stream(&self, stream: &StreamName) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let events = ring.streams.get(stream)?;
        let whole = events.front()?.revision == Revision(0);
        whole.then(|| events.iter().cloned().collect())
    }

    /// At most `limit` events after a position; none where the first of them is not here.
    pub(super) fn page(&self, after: Position, limit: usize) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        if after >= ring.head.position {
            return Some(Vec::new());
        }
        let first = ring.events.front()?.position.0;
        let skip = usize::try_from((after.0 + 1).checked_sub(first)?).ok()?;
        Some(ring.events.iter().skip(skip).take(limit).cloned().collect())
    }
}
