//! Damage of the log in a folder: what was found, and what a read is compared with to find it.

use std::sync::Arc;

use super::recorded::lost_revision;
use super::{EventStore, ReadError, Recorded, StoreBackend, StreamName};
use crate::task::Revision;

impl EventStore {
    /// The events of a stream after the revision `last`, for a decision by the rules: see [`EventStore::read_for_decision`]. The
    /// caller has seen the event of that revision, or has written it. Except on a cluster, a stream that doesn't have it any more
    /// is damaged.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read_after(&self, stream: &StreamName, last: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => {
                let mut events = self.read_stream(stream, last).await?;
                if events.is_empty() {
                    return self.noted(Err(lost_revision(stream, last)));
                }
                events.remove(0);
                Ok(events)
            }
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(_) => self.read_for_decision(stream, Revision(last.0 + 1)).await,
        }
    }

    /// Compares each stream that is read from now on with what the caller knows of it: `known` returns a revision that the stream
    /// has. A stream that ends before it is damaged. Only the log in a folder does this; a second call has no effect.
    pub fn compare_with(&self, known: impl Fn(&StreamName) -> Option<Revision> + Send + Sync + 'static) {
        if let StoreBackend::Sqlite(store) = &self.0 {
            store.compare_with(Box::new(known));
        }
    }

    /// What was found damaged first in the log in a folder, with the position; `None` if no read has found any damage. The
    /// events that are not damaged can still be read, and the log is still written.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        match &self.0 {
            StoreBackend::Memory(_) => None,
            StoreBackend::Sqlite(store) => store.damage(),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(_) => None,
        }
    }

    /// Returns the result of a read. If it is the first one that has found damage, this writes the line for the operator.
    pub(super) fn noted<T>(&self, read: Result<T, ReadError>) -> Result<T, ReadError> {
        if let (StoreBackend::Sqlite(store), Err(ReadError::Damaged(what))) = (&self.0, &read)
            && store.note_damage(what)
        {
            tracing::error!(
                "the log is damaged: {what}; the server is not ready any more: stop it, and check its data folder with \
                 `taskbell log verify`"
            );
        }
        read
    }
}
