//! Whether the log in a folder can be written: what the last write has shown.
//!
//! ```text
//!              nothing was written              a write succeeds
//!  Writable ─────────────────────▶ Unavailable ─────────────────▶ Writable
//!      │                                │
//!      └────────── a sync fails, or it is unknown what is on the disk ──────────▶ Failed
//! ```

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::clock::now;
use crate::repeats::Repeats;
use crate::task::Timestamp;

/// The state, which the writer changes and others read. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct WriteState {
    state: watch::Sender<State>,
    /// The writes that were refused while the log is [`State::Unavailable`].
    refusals: Arc<Repeats>,
}

#[derive(Clone, Debug)]
enum State {
    Writable,
    /// The last write failed, and nothing of it is on the disk.
    Unavailable {
        since: Timestamp,
        why: String,
    },
    /// The log takes no more writes in this process.
    Failed(String),
}

impl State {
    fn health(&self) -> Result<(), String> {
        match self {
            Self::Writable => Ok(()),
            Self::Unavailable { since, why } => Err(format!("it can't be written since {since}: {why}")),
            Self::Failed(why) => Err(why.clone()),
        }
    }
}

impl WriteState {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(State::Writable), refusals: Arc::default() }
    }

    /// Whether the log can be written.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) fn health(&self) -> Result<(), String> {
        self.state.borrow().health()
    }

    /// Why the log takes no more writes in this process; `None` if it may take some.
    pub(super) fn failure(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Failed(why) => Some(why.clone()),
            State::Writable | State::Unavailable { .. } => None,
        }
    }

    /// Whether the last write failed and a later one may succeed.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(&*self.state.borrow(), State::Unavailable { .. })
    }

    /// Waits until the log can be written (if `healthy` is true) or can't be written (if it is false). Returns the health then.
    pub(super) async fn wait_for(&self, healthy: bool) -> Result<(), String> {
        let mut state = self.state.subscribe();
        let changed = state.wait_for(|state| state.health().is_ok() == healthy).await.map(|state| state.health());
        // The sender is in `self`, so the channel is open.
        changed.unwrap_or_else(|_| self.health())
    }

    /// A write has failed, and nothing of it is on the disk.
    pub(super) fn refused(&self, why: &str) {
        if let Some(refused) = self.refusals.occurred(Instant::now()) {
            tracing::error!(refused, "the log can't be written: {why}; it is tried again every second");
        }
        self.state.send_if_modified(|state| match state {
            State::Writable => {
                *state = State::Unavailable { since: now(), why: why.to_owned() };
                true
            }
            State::Unavailable { why: former, .. } if former != why => {
                why.clone_into(former);
                true
            }
            State::Unavailable { .. } | State::Failed(_) => false,
        });
    }

    /// A write is durable. If others have been refused, this may be a small one: the outage ends with [`Self::end_outage`].
    pub(super) fn written(&self) {
        if self.is_unavailable() {
            self.state.send_replace(State::Writable);
        }
    }

    /// There is room again, also for large writes.
    pub(super) fn end_outage(&self) {
        if let Some(ended) = self.refusals.ended(Instant::now()) {
            tracing::info!(refused = ended.total, lasted = ?ended.lasted, "the log can be written again");
        }
    }

    /// The log takes no more writes in this process. Returns the reason, which is that of the first failure.
    pub(super) fn fail(&self, why: String) -> String {
        if let Some(first) = self.failure() {
            return first;
        }
        tracing::error!("the log takes no more writes until a restart: {why}");
        self.state.send_replace(State::Failed(why.clone()));
        why
    }
}
