//! Whether the log can be written and, on a cluster, received.

use super::{EventStore, ReadError, StoreBackend};

impl EventStore {
    /// Whether the log accepts writes and, on a cluster, whether this server receives the events of the log.
    ///
    /// # Errors
    /// The reason why not: a failure that lasts until this process ends, or in a folder the time since when no write succeeds,
    /// for example because the disk is full. On a cluster also: the time since when the cluster can't be reached, or the position
    /// up to which the existing events were received.
    pub fn health(&self) -> Result<(), String> {
        match &self.0 {
            StoreBackend::Memory(_) => Ok(()),
            StoreBackend::Sqlite(store) => store.health(),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.health(),
        }
    }

    /// Whether the log has failed for the rest of this process.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        match &self.0 {
            StoreBackend::Memory(_) => false,
            StoreBackend::Sqlite(store) => store.has_failed(),
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.has_failed(),
        }
    }

    /// Whether this server has received all existing events and receives new ones at once. On a cluster it is false while
    /// this server can't reach the cluster, and while it still receives events that were written earlier.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => true,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.is_caught_up(),
        }
    }

    /// Waits until [`EventStore::health`] is `Ok` (if `healthy` is true) or an error (if `healthy` is false), and returns
    /// that health. A log in memory is always healthy.
    ///
    /// # Errors
    /// The error of `health`.
    pub async fn wait_for_health(&self, healthy: bool) -> Result<(), String> {
        match &self.0 {
            StoreBackend::Memory(_) if healthy => Ok(()),
            StoreBackend::Memory(_) => std::future::pending().await,
            StoreBackend::Sqlite(store) => store.wait_for_health(healthy).await,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.wait_for_health(healthy).await,
        }
    }

    /// Waits until the log has failed in such a way that this process receives no further event. Returns the failure. Only a
    /// cluster can fail in this way; for the other variants the wait never ends.
    pub(crate) async fn wait_for_failure(&self) -> ReadError {
        match &self.0 {
            StoreBackend::Memory(_) | StoreBackend::Sqlite(_) => std::future::pending().await,
            #[cfg(feature = "eventstore")]
            StoreBackend::Cluster(store) => store.wait_for_failure().await,
        }
    }
}
