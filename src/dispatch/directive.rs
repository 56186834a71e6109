//! The directives that the server sends to the worker of an attempt.

use serde::{Deserialize, Serialize};

/// A directive for the worker of an attempt. The variants are in order of strictness, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Directive {
    /// This server is about to stop: take no new attempts from it. Attempts that run go on.
    Drain,
    /// A cancel of the task was requested: stop when the handler can.
    Cancel,
    /// Stop now: the handler's future is dropped at its next `await`.
    Interrupt,
    /// The lease has ended: stop, and report nothing about the attempt.
    Lost,
}
