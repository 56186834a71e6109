//! The subscription to the log.

use std::sync::Arc;

use tokio::sync::watch;

use super::{EventStore, ReadError, Recorded};
use crate::task::Position;

/// The largest number of events that one call returns.
const PAGE: usize = 1000;
/// A page ends with the event at which the total length of `meta` and `data` reaches this number of bytes, or with event number
/// [`PAGE`].
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// A subscription to the log. It gives every event after a position, in order and each exactly once: first the events that
/// exist, then each new event when it is durable. The log stays open while a subscription exists.
pub struct LogSubscription {
    store: EventStore,
    after: Position,
    head: watch::Receiver<Position>,
    /// A page ends with the event at which the total length of `meta` and `data` reaches this number of bytes.
    page_bytes: usize,
}

impl LogSubscription {
    pub(super) fn new(store: EventStore, after: Position) -> Self {
        let head = store.head_changes();
        Self { store, after, head, page_bytes: PAGE_BYTES }
    }

    /// The same subscription with pages of this size in bytes.
    #[must_use]
    pub(crate) fn with_page_bytes(self, page_bytes: usize) -> Self {
        Self { page_bytes, ..self }
    }

    /// Waits until there is a next event. Returns it and the events that follow it, at most 1000, and fewer if they are large. If the caller drops the
    /// future while it waits, no event is lost.
    ///
    /// # Errors
    /// See [`ReadError`]. After an error the next call reads the same events again.
    pub async fn next(&mut self) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let after = self.after;
        tokio::select! {
            biased;
            head = self.head.wait_for(|head| *head > after) => if head.is_err() {
                return Err(ReadError::Unavailable("the log is closed".to_owned()));
            },
            failure = self.store.wait_for_failure() => return Err(failure),
        }
        let events = self.store.read_page(after, PAGE, self.page_bytes).await?;
        self.after = events.last().map_or(after, |event| event.position);
        Ok(events)
    }
}
