//! The durable end of the log, kept in memory: where it ends, its last events, and the signal that there are more.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Head, Recorded};
use crate::task::Position;

/// What a tail holds at most.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) events: usize,
    /// Of `meta` and `data`.
    pub(super) bytes: usize,
}

impl Bounds {
    pub(super) const NONE: Self = Self { events: usize::MAX, bytes: usize::MAX };
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
}

impl Tail {
    pub(super) fn new(head: Head, bounds: Bounds) -> Self {
        let ring = RwLock::new(Ring { head, events: VecDeque::new(), bytes: 0 });
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
            ring.bytes += size(&event);
            ring.events.push_back(event);
        }
        while ring.events.len() > self.bounds.events || ring.bytes > self.bounds.bytes {
            let Some(oldest) = ring.events.pop_front() else { break };
            ring.bytes -= size(&oldest);
        }
        ring.head = head;
        drop(ring);
        self.head.send_replace(head.position);
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
