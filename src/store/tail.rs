//! The durable end of the log, kept in memory: where it ends, its last events, and the signal that there are more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Head, Recorded, StreamName};
use crate::task::{Position, Revision};

/// What a tail holds at most.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events: usize,
    /// Of `meta` and `data`.
    pub(super) bytes: usize,
    /// Whether it can be asked for a stream.
    pub(super) streams: bool,
}

impl Bounds {
    pub(super) const NONE: Self = Self { events: usize::MAX, bytes: usize::MAX, streams: false };
}

pub(super) struct Tail {
    bounds: Bounds,
    ring: RwLock<Ring>,
    head: watch::Sender<Position>,
}

struct Ring {
    head: Head,
    /// Consecutive, up to the head.
    events: VecDeque<Arc<Recorded>>,
    bytes: usize,
    /// The same events by stream: what has just begun is asked for again soon.
    streams: HashMap<StreamName, VecDeque<Arc<Recorded>>>,
}

impl Ring {
    fn push(&mut self, event: Arc<Recorded>, streams: bool) {
        self.bytes += size(&event);
        if streams {
            self.streams.entry(event.stream.clone()).or_default().push_back(Arc::clone(&event));
        }
        self.events.push_back(event);
    }

    fn pop(&mut self) -> bool {
        let Some(oldest) = self.events.pop_front() else { return false };
        self.bytes -= size(&oldest);
        if let Some(stream) = self.streams.get_mut(&oldest.stream) {
            stream.pop_front();
            if stream.is_empty() {
                self.streams.remove(&oldest.stream);
            }
        }
        true
    }
}

impl Tail {
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

    /// Shows what is durable: `events` are those between the old head and the new.
    pub(super) fn publish(&self, events: impl IntoIterator<Item = Arc<Recorded>>, head: Head) {
        let mut ring = self.ring.write().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            ring.push(event, self.bounds.streams);
        }
        while (ring.events.len() > self.bounds.events || ring.bytes > self.bounds.bytes) && ring.pop() {}
        ring.head = head;
        drop(ring);
        self.head.send_replace(head.position);
    }

    /// The whole stream, if all of it is here.
    pub(super) fn stream(&self, stream: &StreamName) -> Option<Vec<Arc<Recorded>>> {
        let ring = self.ring.read().unwrap_or_else(PoisonError::into_inner);
        let events = ring.streams.get(stream)?;
        let whole = events.front()?.revision == Revision(0);
        whole.then(|| events.iter().cloned().collect())
    }

    /// The events after a position, if all of them are here; at most `limit`.
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

fn size(event: &Recorded) -> usize {
    event.raw_meta.get().len() + event.raw_data.get().len()
}
