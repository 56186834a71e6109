//! The handler's access to its attempt: it reads the input, reports progress, checks for a cancel and names steps.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::outcome::Failure;
use crate::clock::now;
use crate::task::{TaskId, Timestamp};

/// The code of a failure whose only cause is that the attempt was interrupted.
pub(in crate::work) const INTERRUPTED: &str = "interrupted";

/// A handler's access to its attempt: input, progress, output, the request to cancel, named steps.
///
/// Clones belong to the same attempt. All methods may be called from any thread.
///
/// ```
/// # use taskbell::{Context, Done, Failure};
/// async fn resize(ctx: Context) -> Result<Done, Failure> {
///     let sizes: Vec<u32> = ctx.input()?;
///     for (n, size) in (1_u32..).zip(&sizes) {
///         ctx.stop_if_cancelled()?;
///         ctx.progress(f64::from(n) / sizes.len() as f64, format!("size {size}"));
///     }
///     Ok(Done::new("resized"))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    attempt: Arc<Attempt>,
}

impl Context {
    pub(in crate::work) const fn new(attempt: Arc<Attempt>) -> Self {
        Self { attempt }
    }

    #[cfg(feature = "worker")]
    pub(in crate::work) const fn inner(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// The task's id.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.attempt.task
    }

    /// The attempt's number, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// The owner: the task is counted in the bell of this person or program.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.attempt.created.owner
    }

    /// The task's kind.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.attempt.created.kind
    }

    /// The task's title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.attempt.created.title
    }

    /// The task's labels.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.attempt.created.labels
    }

    /// The input as a tree. An integer beyond 64 bits, and a number with more digits than a double, becomes the nearest
    /// finite double; [`Self::input_text`] keeps it.
    #[must_use]
    pub fn input_value(&self) -> &Value {
        self.attempt.input_value()
    }

    /// The input as compact JSON, apart from that exactly as the request contained it.
    #[must_use]
    pub fn input_text(&self) -> &str {
        self.attempt.created.input.as_str()
    }

    /// Decodes [`Self::input_text`] as a type of the handler.
    ///
    /// # Errors
    /// A failure with the code `invalid_input`, which is not retryable and names the field. Also if the input has a key that
    /// begins with `$serde_json::private::`: `serde_json` might read it as another value.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let invalid = |why: &str| Failure::fatal("invalid_input", format!("the input can't be read: {why}"));
        let input = &self.attempt.created.input;
        if input.has_private_key() {
            return Err(invalid("it has a key that begins with `$serde_json::private::`"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(input.as_str());
        serde_path_to_error::deserialize(&mut deserializer).map_err(|error| invalid(&error.to_string()))
    }

    /// Reports progress: the fraction of the work that is done, and a line for people. The fraction is clamped to 0 to
    /// 1; `None` and NaN mean that it is unknown. A call is cheap: only the latest progress is sent, at most
    /// ten times a second by a worker inside the server and at most twice a second by a remote worker.
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.set_progress(fraction.into(), message.into());
    }

    /// Appends `text` without changes to the attempt's output. The last 64 KiB are recorded with the attempt's end and
    /// shown on the task's page. If the worker is lost, no output is recorded.
    pub fn output(&self, text: impl AsRef<str>) {
        self.attempt.append_output(text.as_ref());
    }

    /// Returns whether a cancel is requested. The first call that returns true acknowledges the request: the acknowledgement
    /// is recorded in the log. The handler should then stop soon.
    #[must_use]
    pub fn observe_cancel(&self) -> bool {
        self.attempt.observe_cancel()
    }

    /// Waits until a cancel is requested, and acknowledges the request.
    pub async fn cancelled(&self) {
        self.attempt.cancel.cancelled().await;
        self.attempt.observe_cancel();
    }

    /// Returns an error if a cancel is requested. Call it with `?` wherever the work can stop.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] if a cancel is requested. The call then acknowledges the request.
    pub fn stop_if_cancelled(&self) -> Result<(), Failure> {
        if self.observe_cancel() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// Returns a token that is cancelled when a cancel is requested, for code that needs a token. The token doesn't
    /// acknowledge the request: call [`Self::stop_if_cancelled`] when the code has stopped. If you cancel the token
    /// yourself, nothing else is cancelled.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.attempt.cancel.child_token()
    }

    /// Runs `work` on a blocking thread, as a named step that can't be interrupted. A cancel that is requested during
    /// the step is acknowledged with the step's name. The attempt doesn't end before `work` ends.
    ///
    /// # Errors
    /// A retryable failure: its code is `panicked` if `work` panicked, or `interrupted` if the attempt was interrupted
    /// before `work` began or the worker is stopping.
    pub async fn blocking<T, F>(&self, name: impl AsRef<str>, work: F) -> Result<T, Failure>
    where
        F: FnOnce(&Step) -> T + Send + 'static,
        T: Send + 'static,
    {
        let step = Step::enter(&self.attempt, name.as_ref(), None);
        let run_step = move || (!step.is_interrupted()).then(|| work(&step));
        match self.attempt.blocking.spawn_blocking_on(run_step, &self.attempt.runtime).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Failure::retryable(INTERRUPTED, "the attempt was interrupted")),
            Err(error) if error.is_panic() => Err(Failure::panicked(error.into_panic().as_ref())),
            Err(_) => Err(Failure::retryable(INTERRUPTED, "the worker is stopping")),
        }
    }

    /// Begins a named step of the handler's future. It runs until the guard is dropped; `expected` is how long this
    /// should take. A cancel that is requested during the step is acknowledged with the step's name.
    #[must_use = "the step ends when its guard is dropped"]
    pub fn step(&self, name: impl AsRef<str>, expected: Option<Duration>) -> StepGuard {
        StepGuard(Step::enter(&self.attempt, name.as_ref(), expected.map(|expected| now().plus(expected))))
    }
}

/// A named step that runs.
#[derive(Debug)]
pub struct Step {
    attempt: Arc<Attempt>,
    id: u64,
}

impl Step {
    fn enter(attempt: &Arc<Attempt>, name: &str, expected_end: Option<Timestamp>) -> Self {
        Self { attempt: Arc::clone(attempt), id: attempt.enter_step(name, expected_end) }
    }

    /// Sets the expected end to this time from now.
    pub fn expect_end_in(&self, duration: Duration) {
        self.expect_end(now().plus(duration));
    }

    /// Sets the expected end.
    pub fn expect_end(&self, at: Timestamp) {
        self.attempt.set_expected_end(self.id, at);
    }

    /// Changes the name and removes the expected end, for a step that consists of several parts.
    pub fn rename(&self, name: impl AsRef<str>) {
        self.attempt.rename_step(self.id, name.as_ref());
    }

    /// The same as [`Context::progress`].
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.set_progress(fraction.into(), message.into());
    }

    /// Whether the attempt was interrupted, has timed out or has lost its lease. Then the value of a blocking step is
    /// discarded, so a step that can stop cleanly should stop.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.attempt.interrupt.is_cancelled()
    }

    /// Returns a token that is cancelled when [`Self::is_interrupted`] becomes true, for code that waits.
    #[cfg(feature = "server")]
    pub(in crate::work) fn interruption(&self) -> &CancellationToken {
        &self.attempt.interrupt
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.attempt.leave_step(self.id);
    }
}

/// A named step of a handler's future. The step ends when the guard is dropped.
#[derive(Debug)]
pub struct StepGuard(Step);

impl Deref for StepGuard {
    type Target = Step;

    fn deref(&self) -> &Step {
        &self.0
    }
}
