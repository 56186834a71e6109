//! How a handler's run ends: with [`Done`] or with a [`Failure`].

use std::any::Any;

use crate::task::JsonText;

/// The handler has done its work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// One line for people. Control characters become spaces, and the line is cut to 1,024 bytes.
    pub message: Option<String>,
    /// The task's result: at most 256 KiB as compact JSON and 32 levels deep. A larger one fails the attempt.
    pub result: Option<JsonText>,
}

impl Done {
    /// Makes a `Done` with a line for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), result: None }
    }

    /// Adds a result: a [`serde_json::Value`], or a [`JsonText`] if every digit counts.
    #[must_use]
    pub fn with_result(mut self, result: impl Into<JsonText>) -> Self {
        self.result = Some(result.into());
        self
    }
}

/// The handler has not done its work.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// An error has occurred.
    Failed {
        /// The code that programs compare: `snake_case`, at most 64 bytes.
        code: String,
        /// One line for people, at most 1,024 bytes.
        message: String,
        /// Whether another attempt may succeed.
        retryable: bool,
    },
    /// The handler stopped because a cancel was requested.
    Cancelled {
        /// One line for people about the part of the work that was done.
        message: Option<String>,
        /// The result so far. If it is too large, it is dropped.
        result: Option<JsonText>,
    },
}

impl Failure {
    /// Makes a failure after which another attempt may succeed.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: true }
    }

    /// Makes a failure that every other attempt would have too.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: false }
    }

    /// Makes the failure of a handler that stopped because a cancel was requested.
    #[must_use]
    pub const fn cancelled() -> Self {
        Self::Cancelled { message: None, result: None }
    }

    /// Makes the failure of a handler that panicked with `payload`.
    pub(in crate::work) fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        Self::retryable("panicked", format!("the handler panicked: {message}"))
    }
}
