//! Directives: what the server sends to the worker of an attempt.

use serde::{Deserialize, Serialize};

/// A directive for the worker of an attempt; the mildest comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directive {
    /// This server is about to go: take nothing new from it; what runs goes on.
    Drain,
    /// A request to stop was recorded.
    Cancel,
    /// Stop now: the handler's future is dropped at its next await.
    Interrupt,
    /// The lease is no longer yours: stop, report nothing.
    Lost,
}
