//! One attempt, as its worker and its handler share it: the request to cancel, the steps under way, the last progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::output::OutputTail;
use super::text::line;
use crate::clock::now;
use crate::task::event::{Created, OutputKept, Progress};
use crate::task::limits::{ACKNOWLEDGEMENTS_MAX, TEXT_MAX};
use crate::task::{TaskId, Timestamp};

/// The acknowledgement of a request to cancel.
#[derive(Debug)]
pub(in crate::work) struct Acknowledgement {
    /// The step that must end before the attempt can stop.
    pub stopping_after: Option<String>,
    /// When that step is expected to end.
    pub expected_end: Option<Timestamp>,
}

/// Shared by the worker, which passes directives on to it, and the handler's [`crate::work::Context`].
#[derive(Debug)]
pub(in crate::work) struct Attempt {
    pub task: TaskId,
    pub number: u32,
    pub created: Arc<Created>,
    /// The input as a tree, once the handler has asked for it.
    input: OnceLock<Value>,
    /// Cancelled when a cancel of the task is requested: the handler should stop soon.
    pub cancel: CancellationToken,
    /// Cancelled when the handler's future is to be dropped at its next await.
    pub interrupt: CancellationToken,
    /// Cancelled when none of the attempt's code runs any more and its end is reported, or can't be.
    pub finished: CancellationToken,
    /// Blocking steps: they outlive the handler's future.
    pub blocking: TaskTracker,
    /// Where handlers run.
    pub runtime: Handle,
    lost: AtomicBool,
    handed_back: AtomicBool,
    output: Mutex<OutputTail>,
    progress: watch::Sender<Option<Progress>>,
    state: Mutex<CancelState>,
    acknowledgements: mpsc::UnboundedSender<Acknowledgement>,
}

/// How far a request to cancel has come, and which steps are under way. Both stand under one lock, so that an
/// acknowledgement never names a step that has ended, and always names one that runs.
#[derive(Debug, Default)]
struct CancelState {
    requested: bool,
    /// The handler has seen the request.
    observed: bool,
    /// Acknowledgements sent so far.
    acknowledged: u32,
    steps: Vec<RunningStep>,
    last_step: u64,
}

#[derive(Debug)]
struct RunningStep {
    id: u64,
    name: String,
    expected_end: Option<Timestamp>,
}

impl Attempt {
    /// An attempt that has not begun, and the acknowledgements that it will send.
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
            input: OnceLock::new(),
            cancel: CancellationToken::new(),
            interrupt: CancellationToken::new(),
            finished: CancellationToken::new(),
            blocking: TaskTracker::new(),
            runtime,
            lost: AtomicBool::new(false),
            handed_back: AtomicBool::new(false),
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

    /// Passes a request to cancel on to the handler. If a step is under way, that acknowledges it at once.
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

    /// Passes a request to stop now on to the handler.
    pub fn request_interrupt(&self) {
        self.request_cancel();
        self.interrupt.cancel();
    }

    /// Whether a cancel is requested. The first call that returns true acknowledges the request, unless a step did before.
    pub fn observe_cancel(&self) -> bool {
        if !self.cancel.is_cancelled() {
            return false;
        }
        let mut state = self.state();
        if !state.observed {
            state.observed = true;
            if state.acknowledged == 0 {
                self.acknowledge(&mut state);
            }
        }
        true
    }

    /// A named step begins; its id. If a cancel is requested and the handler has not seen it, the step acknowledges it.
    pub fn enter_step(&self, name: &str, expected_end: Option<Timestamp>) -> u64 {
        let mut state = self.state();
        state.last_step += 1;
        let id = state.last_step;
        state.steps.push(RunningStep { id, name: step_name(name), expected_end });
        self.acknowledge_if_unseen(&mut state);
        id
    }

    /// The step continues under another name, with no expected end.
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

    /// The name of the step under way that began last.
    pub fn current_step(&self) -> Option<String> {
        self.state().steps.last().map(|step| step.name.clone())
    }

    /// The lease no longer belongs to this worker: the handler is interrupted, and nothing is reported.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.interrupt.cancel();
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// The worker is stopping: the handler is interrupted and the attempt handed back, unless it ends by itself first.
    #[cfg(feature = "worker")]
    pub fn hand_back(&self) {
        self.handed_back.store(true, Ordering::SeqCst);
        self.interrupt.cancel();
    }

    pub fn is_handed_back(&self) -> bool {
        self.handed_back.load(Ordering::SeqCst)
    }

    pub fn append_output(&self, text: &str) {
        self.output_tail().append(text);
    }

    /// The end of the output; `None` where there was none.
    pub fn output(&self) -> Option<OutputKept> {
        let (tail, dropped_bytes) = self.output_tail().text()?;
        Some(OutputKept { attempt: self.number, tail, dropped_bytes })
    }

    /// Replaces the progress.
    pub fn set_progress(&self, fraction: Option<f64>, message: String) {
        // Adding zero turns -0.0 into 0.0.
        let fraction = fraction.filter(|f| !f.is_nan()).map(|f| f.clamp(0.0, 1.0) + 0.0);
        let message = Some(message).filter(|message| !message.is_empty());
        self.progress.send_replace(Some(Progress { fraction, message, at: now() }));
    }

    /// The last progress, with its message as one line within the limit.
    pub fn progress(&self) -> Option<Progress> {
        let progress = self.progress.borrow().clone()?;
        Some(Progress { message: progress.message.and_then(|message| line(&message, TEXT_MAX)), ..progress })
    }

    pub fn watch_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    fn acknowledge_if_unseen(&self, state: &mut CancelState) {
        if state.requested && !state.observed && state.acknowledged < ACKNOWLEDGEMENTS_MAX {
            self.acknowledge(state);
        }
    }

    fn acknowledge(&self, state: &mut CancelState) {
        state.acknowledged += 1;
        let step = state.steps.last();
        let acknowledgement = Acknowledgement {
            stopping_after: step.map(|step| step.name.clone()),
            expected_end: step.and_then(|step| step.expected_end),
        };
        // Without a receiver the attempt has ended, and there is nothing to acknowledge.
        let _ = self.acknowledgements.send(acknowledgement);
    }

    fn output_tail(&self) -> MutexGuard<'_, OutputTail> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic under the lock leaves nothing half done: each change is one assignment.
    fn state(&self) -> MutexGuard<'_, CancelState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn step_name(name: &str) -> String {
    line(name, TEXT_MAX).unwrap_or_else(|| "a step".to_owned())
}
