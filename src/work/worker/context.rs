//! What a handler is given: its input, and the ways to report progress, to see a cancel and to name steps.

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

/// The code of a failure that only says that the attempt was interrupted.
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

    /// The subject who sees the task.
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
    /// finite double: see [`Self::input_text`].
    #[must_use]
    pub fn input_value(&self) -> &Value {
        self.attempt.input_value()
    }

    /// The input as compact JSON, otherwise exactly as it was sent: with every digit of its numbers.
    #[must_use]
    pub fn input_text(&self) -> &str {
        self.attempt.created.input.as_str()
    }

    /// The input as a type of the handler's own, read from [`Self::input_text`].
    ///
    /// # Errors
    /// A failure with the code `invalid_input`, not retryable, that names the field. Also where the input has a key that
    /// `serde_json` keeps for itself (`$serde_json::private::…`): it might become another value.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let invalid = |why: &str| Failure::fatal("invalid_input", format!("the input can't be read: {why}"));
        let input = &self.attempt.created.input;
        if input.has_private_key() {
            return Err(invalid("it has a key that begins with `$serde_json::private::`"));
        }
        let mut reader = serde_json::Deserializer::from_str(input.as_str());
        serde_path_to_error::deserialize(&mut reader).map_err(|wrong| invalid(&wrong.to_string()))
    }

    /// Reports how far the work has come: the fraction (0 to 1; values beyond are clamped, `None` and NaN mean unknown)
    /// and a line for people. Cheap: only the latest progress counts, and it is sent at most ten times a second.
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.set_progress(fraction.into(), message.into());
    }

    /// Appends `text`, as it is, to the attempt's output. The last 64 KiB are recorded with the attempt's end and shown on
    /// the task's page; an attempt whose worker is lost keeps nothing.
    pub fn output(&self, text: impl AsRef<str>) {
        self.attempt.append_output(text.as_ref());
    }

    /// Whether a cancel is requested. The first call that returns true acknowledges it: stop soon after.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.attempt.observe_cancel()
    }

    /// Resolves when a cancel is requested, and acknowledges it.
    pub async fn cancelled(&self) {
        self.attempt.cancel.cancelled().await;
        self.attempt.observe_cancel();
    }

    /// To be called wherever the work can stop.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] if a cancel is requested; that acknowledges it.
    pub fn stop_if_cancelled(&self) -> Result<(), Failure> {
        if self.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// The request to cancel as a token, for code that takes one. Reading the token acknowledges nothing: call
    /// [`Self::stop_if_cancelled`] when you act on it. Cancelling the token stops nothing else.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.attempt.cancel.child_token()
    }

    /// Runs `work` on a blocking thread, as a named step that can't be interrupted: a cancel that arrives meanwhile is
    /// acknowledged with the step's name, and the attempt never ends before `work` does.
    ///
    /// # Errors
    /// A retryable failure with the code `panicked` if `work` panicked, `interrupted` if the attempt was interrupted before
    /// `work` began.
    pub async fn blocking<T, F>(&self, name: impl AsRef<str>, work: F) -> Result<T, Failure>
    where
        F: FnOnce(&Step) -> T + Send + 'static,
        T: Send + 'static,
    {
        let step = Step::enter(&self.attempt, name.as_ref(), None);
        let run = move || (!step.is_interrupted()).then(|| work(&step));
        match self.attempt.blocking.spawn_blocking_on(run, &self.attempt.runtime).await {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(Failure::retryable(INTERRUPTED, "the attempt was interrupted")),
            Err(ended) if ended.is_panic() => Err(Failure::panicked(ended.into_panic().as_ref())),
            Err(_) => Err(Failure::retryable(INTERRUPTED, "the worker is stopping")),
        }
    }

    /// A named step of the future itself, under way until the guard is dropped and expected to take `expected`. A cancel
    /// that arrives meanwhile is acknowledged with its name.
    #[must_use = "the step ends when its guard is dropped"]
    pub fn step(&self, name: impl AsRef<str>, expected: Option<Duration>) -> StepGuard {
        StepGuard(Step::enter(&self.attempt, name.as_ref(), expected.map(|expected| now().plus(expected))))
    }
}

/// A named step under way.
#[derive(Debug)]
pub struct Step {
    attempt: Arc<Attempt>,
    id: u64,
}

impl Step {
    fn enter(attempt: &Arc<Attempt>, name: &str, expected_end: Option<Timestamp>) -> Self {
        Self { attempt: Arc::clone(attempt), id: attempt.enter_step(name, expected_end) }
    }

    /// Replaces the expected end: this long from now.
    pub fn expect_end_in(&self, duration: Duration) {
        self.expect_end(now().plus(duration));
    }

    /// Replaces the expected end.
    pub fn expect_end(&self, at: Timestamp) {
        self.attempt.set_expected_end(self.id, at);
    }

    /// Replaces the name, where one step stands for several, and forgets the expected end.
    pub fn rename(&self, name: impl AsRef<str>) {
        self.attempt.rename_step(self.id, name.as_ref());
    }

    /// The same as [`Context::progress`].
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.set_progress(fraction.into(), message.into());
    }

    /// Whether the attempt was interrupted, timed out or lost its lease. The value of a blocking step is discarded then, so
    /// a step that can break off cleanly should.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.attempt.interrupt.is_cancelled()
    }

    /// Cancelled when [`Self::is_interrupted`] becomes true, for code that waits.
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

/// A named step of a handler's future: under way until this is dropped.
#[derive(Debug)]
pub struct StepGuard(Step);

impl Deref for StepGuard {
    type Target = Step;

    fn deref(&self) -> &Step {
        &self.0
    }
}
