//! Following the log.

use std::sync::Arc;

use tokio::sync::watch;

use super::{EventStore, ReadError, Recorded};
use crate::task::Position;

/// Events that one call gives at most.
const PAGE: usize = 1000;

/// Every event after a position, in order, none left out and none twice: first those that are there, then each new one
/// when it is durable. It keeps the log open.
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

    /// The next events: waits for one, gives at most 1000. May be dropped while it waits: nothing is lost.
    ///
    /// # Errors
    /// See [`ReadError`]; the next call tries the same events again.
    pub async fn next(&mut self) -> Result<Vec<Arc<Recorded>>, ReadError> {
        let after = self.after;
        if self.head.wait_for(|head| *head > after).await.is_err() {
            return Err(ReadError::Unavailable("the log is closed".to_owned()));
        }
        let events = self.store.read_all(after, PAGE).await?;
        self.after = events.last().map_or(after, |event| event.position);
        Ok(events)
    }
}
