//! What a handler has of the world.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use super::handler::Failure;
use super::report::panicked;
use crate::store::now;
use crate::task::{TaskId, Timestamp};

/// The code of a failure that only says that the attempt was cut.
pub(in crate::work) const INTERRUPTED: &str = "interrupted";

/// What a handler has of the world: its input, progress, the request to cancel, named steps.
///
/// A clone speaks for the same attempt; all of it works from any thread.
#[derive(Clone, Debug)]
pub struct Context {
    attempt: Arc<Attempt>,
}

impl Context {
    pub(in crate::work) const fn new(attempt: Arc<Attempt>) -> Self {
        Self { attempt }
    }

    /// The attempt that it speaks for.
    pub(in crate::work) const fn inner(&self) -> &Arc<Attempt> {
        &self.attempt
    }

    /// Which task.
    #[must_use]
    pub fn task_id(&self) -> TaskId {
        self.attempt.task
    }

    /// Which attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt.number
    }

    /// Who sees the task.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.attempt.created.owner
    }

    /// What sort of work.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.attempt.created.kind
    }

    /// What people read.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.attempt.created.title
    }

    /// Free words to filter by.
    #[must_use]
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.attempt.created.labels
    }

    /// The input as it was accepted.
    #[must_use]
    pub fn input_value(&self) -> &Value {
        &self.attempt.created.input
    }

    /// The input as a type of the handler's own.
    ///
    /// # Errors
    /// A failure with the code `invalid_input`, not retryable, that names the field.
    pub fn input<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_path_to_error::deserialize(self.input_value())
            .map_err(|wrong| Failure::fatal("invalid_input", format!("the input can't be read: {wrong}")))
    }

    /// Says how far the work has come: the fraction (0 to 1, where it is known; beyond is cut, NaN is unknown) and a line
    /// for people. Cheap; the latest wins, and it is passed on at most ten times a second.
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.note(fraction.into(), message.into());
    }

    /// Keeps `text`, as it is, as the next part of what the attempt wrote. The last 64 KiB are recorded with the attempt's
    /// end and shown on the task's page; an attempt whose worker is lost keeps nothing.
    pub fn output(&self, text: impl AsRef<str>) {
        self.attempt.write(text.as_ref());
    }

    /// Whether somebody asked for the task to stop. Seeing it acknowledges it: stop soon.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.attempt.observe()
    }

    /// Resolves when somebody asks for the task to stop, and acknowledges that.
    pub async fn cancelled(&self) {
        self.attempt.asked.cancelled().await;
        self.attempt.observe();
    }

    /// To be called wherever the work can stop.
    ///
    /// # Errors
    /// [`Failure::Cancelled`] where somebody asked for the task to stop; that acknowledges it.
    pub fn stop_if_cancelled(&self) -> Result<(), Failure> {
        if self.is_cancelled() { Err(Failure::cancelled()) } else { Ok(()) }
    }

    /// The request to cancel as a token, for code that takes one. Nobody hears that the token was seen: when you act on
    /// it, call [`Self::stop_if_cancelled`]. Cancelling it yourself stops nothing else.
    #[must_use]
    pub fn cancel_token(&self) -> CancellationToken {
        self.attempt.asked.child_token()
    }

    /// Runs `work` on a thread of its own kind, as a named step that can't be interrupted: a cancel that arrives
    /// meanwhile is answered with the step's name, and the attempt never ends before `work` does.
    ///
    /// # Errors
    /// A retryable failure with the code `panicked` where `work` panicked, `interrupted` where it was too late to begin.
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
            Err(ended) if ended.is_panic() => Err(panicked(ended.into_panic().as_ref())),
            Err(_) => Err(Failure::retryable(INTERRUPTED, "the worker is stopping")),
        }
    }

    /// A named step of the future itself, under way until the guard is dropped. A cancel that arrives meanwhile is
    /// answered with its name.
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
        Self { attempt: Arc::clone(attempt), id: attempt.enter(name, expected_end) }
    }

    /// It is expected to take this much longer. May be said again at any time.
    pub fn expect_end_in(&self, duration: Duration) {
        self.expect_end(now().plus(duration));
    }

    /// It is expected to be over then. May be said again at any time.
    pub fn expect_end(&self, at: Timestamp) {
        self.attempt.expect_end(self.id, at);
    }

    /// What it does now, where one step stands for several; the expected end of the former is forgotten.
    pub fn rename(&self, name: impl AsRef<str>) {
        self.attempt.rename(self.id, name.as_ref());
    }

    /// The same as [`Context::progress`].
    pub fn progress(&self, fraction: impl Into<Option<f64>>, message: impl Into<String>) {
        self.attempt.note(fraction.into(), message.into());
    }

    /// Whether the attempt was interrupted, timed out or lost its lease: what a blocking step gives is thrown away, so
    /// one that can break off cleanly should.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        self.attempt.cut.is_cancelled()
    }

    /// Cancelled when [`Self::is_interrupted`] becomes true, for code that waits.
    pub(in crate::work) fn interruption(&self) -> &CancellationToken {
        &self.attempt.cut
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.attempt.leave(self.id);
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
