//! How many sockets are open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many sockets are open. Clones share the count. While it is zero, the projector sends no events to the hub.
#[derive(Clone, Debug, Default)]
pub struct OpenSockets(Arc<AtomicUsize>);

impl OpenSockets {
    /// Whether no socket is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    pub(super) fn set(&self, sockets: usize) {
        self.0.store(sockets, Ordering::SeqCst);
    }
}
