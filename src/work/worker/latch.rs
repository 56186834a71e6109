//! A flag that is set once and can be waited for.

use tokio_util::sync::CancellationToken;

/// A flag that is set once and stays set; clones share it. It has nothing to do with the cancel of a task.
#[derive(Clone, Debug, Default)]
pub(in crate::work) struct Latch(CancellationToken);

impl Latch {
    pub fn set(&self) {
        self.0.cancel();
    }

    pub fn is_set(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until the flag is set.
    pub async fn wait(&self) {
        self.0.cancelled().await;
    }
}
