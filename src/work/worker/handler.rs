//! The trait that an application implements for each kind of task that it executes.

use std::time::Duration;

use serde_json::Value;

use super::context::Context;
pub use super::outcome::{Done, Failure};
use crate::task::Invalid;
use crate::task::event::CancelLadder;

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

    /// Checks an input before its task is created. If the input is refused, the response to the request is 422 and
    /// nothing is recorded.
    ///
    /// # Errors
    /// Each invalid field, with a JSON pointer that is relative to the input.
    fn check(&self, _input: &Value) -> Result<(), Vec<Invalid>> {
        Ok(())
    }

    /// Returns the title of a task whose request has none. `None` means that the title is the kind.
    fn title(&self, _input: &Value) -> Option<String> {
        None
    }

    /// Returns the settings of a task whose request doesn't have them.
    fn defaults(&self) -> Defaults {
        Defaults::default()
    }

    /// Executes one attempt. A task with `max_attempts` above 1 may run more than once.
    ///
    /// If the attempt is interrupted, the future is dropped at its next await.
    ///
    /// # Errors
    /// [`Failure::Failed`] if the work can't be done; [`Failure::Cancelled`] if the handler has stopped because a cancel was
    /// requested.
    async fn run(&self, ctx: Context) -> Result<Done, Failure>;
}

/// The settings of a kind's tasks, for requests that don't have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The most attempts of one run. With 1, the work is executed at most once; with more, at least once.
    pub max_attempts: u32,
    /// How long one attempt may take; `None` means that there is no limit.
    pub timeout: Option<Duration>,
    /// The cancel ladder.
    pub cancel: CancelLadder,
}

impl Default for Defaults {
    fn default() -> Self {
        Self { max_attempts: 1, timeout: None, cancel: CancelLadder::default() }
    }
}
