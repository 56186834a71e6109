//! Whether any socket is open.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many sockets are open: a hub without sockets need not hear of any event. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct Audience(Arc<AtomicUsize>);

impl Audience {
    /// Whether no socket is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    pub(super) fn set(&self, sockets: usize) {
        self.0.store(sockets, Ordering::SeqCst);
    }
}
