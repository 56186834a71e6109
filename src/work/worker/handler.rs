//! What somebody writes to have their work run behind the bell.

use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use crate::task::Invalid;
use crate::task::event::CancelPolicy;

/// One kind of background work.
///
/// ```
/// # use crate::work::{Context, Done, Failure, Handler};
/// struct Greet;
///
/// #[crate::async_trait]
/// impl Handler for Greet {
///     fn kind(&self) -> &str {
///         "demo.greet"
///     }
///
///     async fn run(&self, ctx: Context) -> Result<Done, Failure> {
///         ctx.progress(0.5, "halfway");
///         ctx.stop_if_cancelled()?;
///         Ok(Done::new("greeted"))
///     }
/// }
/// ```
#[async_trait::async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Its name: `[a-z0-9._-]{1,64}`.
    fn kind(&self) -> &str;

    /// What the input alone shows to be wrong; such a request is refused with 422 and nothing is written.
    ///
    /// # Errors
    /// Each field that breaks a rule; pointers are relative to the input.
    fn check(&self, _input: &Value) -> Result<(), Vec<Invalid>> {
        Ok(())
    }

    /// The title where the request gives none.
    fn title(&self, _input: &Value) -> Option<String> {
        None
    }

    /// What holds for a request that doesn't say otherwise.
    fn defaults(&self) -> Defaults {
        Defaults::default()
    }

    /// Does the work. May run more than once for one task where `max_attempts` is above 1.
    ///
    /// Dropping the future is how an attempt is interrupted: at its next await.
    ///
    /// # Errors
    /// [`Failure::Failed`] where it can't be done; [`Failure::Cancelled`] where it stopped because it was asked to.
    async fn run(&self, ctx: Context) -> Result<Done, Failure>;
}

/// What holds for a kind where the request doesn't say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Attempts of one run. 1 is at most once; more is at least once.
    pub max_attempts: u32,
    /// Bound on one attempt.
    pub timeout: Option<Duration>,
    /// The ladder of a cancel.
    pub cancel: CancelPolicy,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { max_attempts: 1, timeout: None, cancel: CancelPolicy::default() }
    }
}

/// The work is done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Done {
    /// One line for people.
    pub message: Option<String>,
    /// What it gave: at most 256 KiB as JSON.
    pub result: Option<Value>,
}

impl Done {
    /// Done, with a line for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), result: None }
    }

    /// The same with a result.
    #[must_use]
    pub fn with_result(mut self, result: Value) -> Self {
        self.result = Some(result);
        self
    }
}

/// The work is not done.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// It can't be.
    Failed {
        /// Stable, `snake_case`.
        code: String,
        /// For people.
        message: String,
        /// Whether another attempt may do better.
        retryable: bool,
    },
    /// It stopped because it was asked to.
    Cancelled {
        /// One line for people: what was done, what was not.
        message: Option<String>,
        /// What it gave up to there.
        result: Option<Value>,
    },
}

impl Failure {
    /// It can't be done now; another attempt may do better.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: true }
    }

    /// It can't be done at all.
    pub fn fatal(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Failed { code: code.into(), message: message.into(), retryable: false }
    }

    /// It stopped because it was asked to.
    #[must_use]
    pub const fn cancelled() -> Self {
        Self::Cancelled { message: None, result: None }
    }
}
