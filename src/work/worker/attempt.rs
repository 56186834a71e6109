//! The state of one attempt, which its worker and its handler share: the request to cancel, the running steps, the
//! progress and the output.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::latch::Latch;
use super::output_tail::OutputTail;
use super::text::single_line;
use crate::clock::now;
use crate::task::event::{Created, OutputKept, Progress};
use crate::task::limits::{ACKNOWLEDGEMENTS_MAX, TEXT_MAX};
use crate::task::{TaskId, Timestamp};

/// An acknowledgement of a request to cancel.
#[derive(Debug)]
pub(in crate::work) struct Acknowledgement {
    /// The step that must end before the attempt can stop.
    pub stopping_after: Option<String>,
    /// When that step is expected to end.
    pub expected_end: Option<Timestamp>,
}

/// The state of one attempt. The worker applies directives to it, and the handler reads it through its
/// [`Context`](crate::work::Context).
#[derive(Debug)]
pub(in crate::work) struct Attempt {
    pub task: TaskId,
    pub number: u32,
    pub created: Arc<Created>,
    /// Cancelled when a cancel of the task is requested. Then the handler should stop soon.
    pub cancel: CancellationToken,
    /// Cancelled when the attempt is interrupted. Then the handler's future is dropped at its next await.
    pub interrupt: CancellationToken,
    /// Set when none of the attempt's code runs any more and the report of its end has succeeded or finally failed.
    pub finished: Latch,
    /// The blocking steps. They may run longer than the handler's future.
    pub blocking: TaskTracker,
    /// The runtime that handlers run on.
    pub runtime: Handle,
    /// The input as a tree, after the handler has asked for it.
    input: OnceLock<Value>,
    lost: AtomicBool,
    is_released: AtomicBool,
    output: Mutex<OutputTail>,
    progress: watch::Sender<Option<Progress>>,
    state: Mutex<CancelAndSteps>,
    acknowledgements: mpsc::UnboundedSender<Acknowledgement>,
}

/// The state of a request to cancel, and the running steps. One lock protects both. So an acknowledgement never names a step
/// that has ended, and it names a step whenever one runs.
#[derive(Debug, Default)]
struct CancelAndSteps {
    requested: bool,
    /// Whether the handler has seen the request.
    observed: bool,
    /// The number of acknowledgements so far.
    acknowledgement_count: u32,
    steps: Vec<RunningStep>,
    last_step_id: u64,
}

#[derive(Debug)]
struct RunningStep {
    id: u64,
    name: String,
    expected_end: Option<Timestamp>,
}

impl Attempt {
    /// Makes an attempt that has not begun, and the receiver of its acknowledgements.
    pub fn new(
        task: TaskId,
        number: u32,
        created: Arc<Created>,
        runtime: Handle,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Acknowledgement>) {
        let (acknowledgements, receiver) = mpsc::unbounded_channel();
        let attempt = Self {
            task,
            number,
            created,
            cancel: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            finished: Latch::default(),
            blocking: TaskTracker::new(),
            runtime,
            input: OnceLock::new(),
            lost: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            output: Mutex::default(),
            progress: watch::channel(None).0,
            state: Mutex::default(),
            acknowledgements,
        };
        (Arc::new(attempt), receiver)
    }

    /// The input as a tree.
    pub fn input_value(&self) -> &Value {
        self.input.get_or_init(|| self.created.input.to_value())
    }

    /// Requests that the handler stops. If a step runs, the request is acknowledged at once, with the step's name.
    pub fn request_cancel(&self) {
        let mut state = self.state();
        if !state.requested {
            state.requested = true;
            if !state.steps.is_empty() {
                self.acknowledge(&mut state);
            }
        }
        drop(state);
        self.cancel.cancel();
    }

    /// Requests a cancel and interrupts the handler.
    pub fn request_interrupt(&self) {
        self.request_cancel();
        self.interrupt.cancel();
    }

    /// Whether a cancel is requested. The first call that returns true acknowledges the request, unless a step has
    /// acknowledged it before.
    pub fn observe_cancel(&self) -> bool {
        if !self.cancel.is_cancelled() {
            return false;
        }
        let mut state = self.state();
        if !state.observed {
            state.observed = true;
            if state.acknowledgement_count == 0 {
                self.acknowledge(&mut state);
            }
        }
        true
    }

    /// Begins a named step and returns its id. If a cancel is requested and the handler has not seen the request, the step
    /// acknowledges it.
    pub fn enter_step(&self, name: &str, expected_end: Option<Timestamp>) -> u64 {
        let mut state = self.state();
        state.last_step_id += 1;
        let id = state.last_step_id;
        state.steps.push(RunningStep { id, name: step_name(name), expected_end });
        self.acknowledge_if_unseen(&mut state);
        id
    }

    /// Gives the step another name, without an expected end. Acknowledges a request like [`Self::enter_step`].
    pub fn rename_step(&self, id: u64, name: &str) {
        let mut state = self.state();
        if let Some(step) = state.steps.iter_mut().find(|step| step.id == id) {
            step.name = step_name(name);
            step.expected_end = None;
            self.acknowledge_if_unseen(&mut state);
        }
    }

    pub fn set_expected_end(&self, id: u64, end: Timestamp) {
        if let Some(step) = self.state().steps.iter_mut().find(|step| step.id == id) {
            step.expected_end = Some(end);
        }
    }

    pub fn leave_step(&self, id: u64) {
        self.state().steps.retain(|step| step.id != id);
    }

    /// Returns the name of the running step that began last.
    pub fn current_step(&self) -> Option<String> {
        self.state().steps.last().map(|step| step.name.clone())
    }

    /// Interrupts the handler because the lease no longer belongs to this worker. Nothing more is reported.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.interrupt.cancel();
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// Interrupts the handler because the worker stops. The attempt is released, which means that its task is
    /// queued again, unless the handler returns before.
    #[cfg(feature = "worker")]
    pub fn release(&self) {
        self.is_released.store(true, Ordering::SeqCst);
        self.interrupt.cancel();
    }

    pub fn is_released(&self) -> bool {
        self.is_released.load(Ordering::SeqCst)
    }

    pub fn append_output(&self, text: &str) {
        self.output_tail().append(text);
    }

    /// Returns the tail of the output; `None` if there was no output.
    pub fn output(&self) -> Option<OutputKept> {
        let (tail, dropped_bytes) = self.output_tail().text()?;
        Some(OutputKept { attempt: self.number, tail, dropped_bytes })
    }

    /// Replaces the progress.
    pub fn set_progress(&self, fraction: Option<f64>, message: String) {
        // The addition changes -0.0 to 0.0.
        let fraction = fraction.filter(|f| !f.is_nan()).map(|f| f.clamp(0.0, 1.0) + 0.0);
        let message = Some(message).filter(|message| !message.is_empty());
        self.progress.send_replace(Some(Progress { fraction, message, at: now() }));
    }

    /// Returns the last progress. Its message is one line within the limit.
    pub fn progress(&self) -> Option<Progress> {
        let progress = self.progress.borrow().clone()?;
        Some(Progress { message: progress.message.and_then(|message| single_line(&message, TEXT_MAX)), ..progress })
    }

    pub fn watch_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    fn acknowledge_if_unseen(&self, state: &mut CancelAndSteps) {
        if state.requested && !state.observed && state.acknowledgement_count < ACKNOWLEDGEMENTS_MAX {
            self.acknowledge(state);
        }
    }

    fn acknowledge(&self, state: &mut CancelAndSteps) {
        state.acknowledgement_count += 1;
        let step = state.steps.last();
        let acknowledgement = Acknowledgement {
            stopping_after: step.map(|step| step.name.clone()),
            expected_end: step.and_then(|step| step.expected_end),
        };
        // It fails if the receiver is gone, because the attempt has ended.
        let _ = self.acknowledgements.send(acknowledgement);
    }

    fn output_tail(&self) -> MutexGuard<'_, OutputTail> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A poisoned lock is used all the same: after a panic, the fields are still valid.
    fn state(&self) -> MutexGuard<'_, CancelAndSteps> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn step_name(name: &str) -> String {
    single_line(name, TEXT_MAX).unwrap_or_else(|| "a step".to_owned())
}
