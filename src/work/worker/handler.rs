//! The trait that an application implements for each kind of task that it executes.

use std::time::Duration;

use serde_json::Value;

use super::context::Context;
pub use super::outcome::{Done, Failure};
use crate::task::Invalid;
use crate::task::event::CancelPolicy;

/// Executes the tasks of one kind.
///
/// ```
/// # use taskbell::{Context, Done, Failure, Handler};
/// struct Greet;
///
/// #[taskbell::async_trait]
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
    /// The kind: `[a-z0-9._-]{1,64}`.
    fn kind(&self) -> &str;

    /// Checks an input before its task is created. A request whose input is refused is answered with 422, and nothing is
    /// written.
    ///
    /// # Errors
    /// Each field that breaks a rule; pointers are relative to the input.
    fn check(&self, _input: &Value) -> Result<(), Vec<Invalid>> {
        Ok(())
    }

    /// The title of a task whose request gives none.
    fn title(&self, _input: &Value) -> Option<String> {
        None
    }

    /// The settings of a task whose request gives none.
    fn defaults(&self) -> Defaults {
        Defaults::default()
    }

    /// Executes one attempt. A task with `max_attempts` above 1 may run more than once.
    ///
    /// An interrupt drops the future at its next await.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the work can't be done; [`Failure::Cancelled`] if it stopped because a cancel was requested.
    async fn run(&self, ctx: Context) -> Result<Done, Failure>;
}

/// The settings of a kind's tasks where the request gives none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// Attempts of one run. 1 is at most once; more is at least once.
    pub max_attempts: u32,
    /// The bound on one attempt; `None`: no bound.
    pub timeout: Option<Duration>,
    /// The ladder of a cancel.
    pub cancel: CancelPolicy,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { max_attempts: 1, timeout: None, cancel: CancelPolicy::default() }
    }
}
