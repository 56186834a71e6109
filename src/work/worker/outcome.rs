//! How a handler's run ends: with a result, or with a failure.

use std::any::Any;

use crate::task::JsonText;

/// The work is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// One line for people: control characters become spaces, and what exceeds 1,024 bytes is cut off.
    pub message: Option<String>,
    /// The task's result: at most 256 KiB as compact JSON and 32 levels deep. A larger one fails the attempt.
    pub result: Option<JsonText>,
}

impl Done {
    /// Done, with a line for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), result: None }
    }

    /// The same with a result: a [`serde_json::Value`], or a [`JsonText`] where every digit counts.
    #[must_use]
    pub fn with_result(mut self, result: impl Into<JsonText>) -> Self {
        self.result = Some(result.into());
        self
    }
}

/// The work is not done.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The handler met an error.
    Failed {
        /// Stable, `snake_case`, at most 64 bytes.
        code: String,
        /// One line for people, at most 1,024 bytes.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The handler stopped because a cancel was requested.
    Cancelled {
        /// One line for people: what was done, what was not.
        message: Option<String>,
        /// The result so far; one that is too large is dropped.
        result: Option<JsonText>,
    },
}

impl Failure {
    /// An error after which another attempt may succeed.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: true }
    }

    /// An error that every attempt will meet.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: false }
    }

    /// The handler stopped because a cancel was requested.
    #[must_use]
    pub const fn cancelled() -> Self {
        Self::Cancelled { message: None, result: None }
    }

    /// The failure of a handler that panicked with `payload`.
    pub(in crate::work) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::retryable("panicked", format!("the handler panicked: {message}"))
    }
}
