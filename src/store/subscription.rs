//! A subscriber's way through the log.

use std::sync::Arc;

use tokio::sync::watch;

use super::{EventStore, ReadError, Recorded};
use crate::task::Position;

/// Events that one call returns at most.
const PAGE: usize = 1000;

/// Every event after a position, in order, each exactly once: first those that exist, then each new one when it is durable.
/// It keeps the log open.
pub struct LogSubscription {
    store: EventStore,
    after: Position,
    head: watch::Receiver<Position>,
}

impl LogSubscription {
    pub(super) fn new(store: EventStore, after: Position) -> Self {
        let head = store.watch();
        Self { store, after, head }
    }

    /// Waits until there is a next event, and returns it with those that follow; at most 1000. The future can be dropped while
    /// it waits; no event is lost.
    ///
    /// # Errors
    /// See [`ReadError`]; the next call reads the same events again.
    pub async fn next(&mut self) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let after = self.after;
        tokio::select! {
            biased;
            head = self.head.wait_for(|head| *head > after) => if head.is_err() {
                return Err(ReadError::Unavailable("the log is closed".to_owned()));
            },
            failure = self.store.failure() => return Err(failure),
        }
        let events = self.store.read_all(after, PAGE).await?;
        self.after = events.last().map_or(after, |event| event.position);
        Ok(events)
    }
}
