//! One attempt, as the worker and its handler share it: the request to stop, the steps under way, the last progress.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::report::line;
use super::tail::Tail;
use crate::clock::now;
use crate::task::event::{Created, OutputKept, Progress};
use crate::task::limits::{ACKNOWLEDGEMENTS_MAX, TEXT_MAX};
use crate::task::{TaskId, Timestamp};

/// What the worker says to a request to cancel.
#[derive(Debug)]
pub(in crate::work) struct Ack {
    /// The step that comes to its end first.
    pub stopping_after: Option<String>,
    /// When it is expected to.
    pub expected_end: Option<Timestamp>,
}

/// Shared by the worker, which directs, and the handler's [`crate::work::Context`], which obeys.
#[derive(Debug)]
pub(in crate::work) struct Attempt {
    pub task: TaskId,
    pub number: u32,
    pub created: Arc<Created>,
    /// Somebody asked for it to stop.
    pub asked: CancellationToken,
    /// The handler's future is to be dropped at its next await.
    pub cut: CancellationToken,
    /// None of its code runs any more and its end is told, or can't be.
    pub over: CancellationToken,
    /// Blocking steps: they outlive the handler's future.
    pub blocking: TaskTracker,
    /// Where handlers run.
    pub runtime: Handle,
    lost: AtomicBool,
    handed_back: AtomicBool,
    output: Mutex<Tail>,
    progress: watch::Sender<Option<Progress>>,
    heard: Mutex<Heard>,
    acks: mpsc::UnboundedSender<Ack>,
}

/// Who knows of the request to cancel, and what is under way. One lock, so that the worker never names a step that was
/// over, nor says "at once" while one runs.
#[derive(Debug, Default)]
struct Heard {
    asked: bool,
    /// The handler has seen the request.
    observed: bool,
    /// The worker has answered it.
    acknowledged: bool,
    /// How often.
    answers: u32,
    steps: Vec<UnderWay>,
    entered: u64,
}

#[derive(Debug)]
struct UnderWay {
    id: u64,
    name: String,
    expected_end: Option<Timestamp>,
}

impl Attempt {
    pub fn new(
        task: TaskId,
        number: u32,
        created: Arc<Created>,
        runtime: Handle,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Ack>) {
        let (acks, heard) = mpsc::unbounded_channel();
        let attempt = Self {
            task,
            number,
            created,
            asked: CancellationToken::new(),
            cut: CancellationToken::new(),
            over: CancellationToken::new(),
            blocking: TaskTracker::new(),
            runtime,
            lost: AtomicBool::new(false),
            handed_back: AtomicBool::new(false),
            output: Mutex::default(),
            progress: watch::channel(None).0,
            heard: Mutex::default(),
            acks,
        };
        (Arc::new(attempt), heard)
    }

    /// Somebody asked for it to stop. Where a step is under way, that is the answer, at once.
    pub fn ask(&self) {
        let mut heard = self.heard();
        if !heard.asked {
            heard.asked = true;
            if !heard.steps.is_empty() {
                self.acknowledge(&mut heard);
            }
        }
        drop(heard);
        self.asked.cancel();
    }

    /// The handler looks: if somebody asked, it knows from now on, and so does everybody.
    pub fn observe(&self) -> bool {
        if !self.asked.is_cancelled() {
            return false;
        }
        let mut heard = self.heard();
        if !heard.observed {
            heard.observed = true;
            if !heard.acknowledged {
                self.acknowledge(&mut heard);
            }
        }
        true
    }

    /// A named step begins. After a request that the handler hasn't seen, it is what the stop waits for.
    pub fn enter(&self, name: &str, expected_end: Option<Timestamp>) -> u64 {
        let mut heard = self.heard();
        heard.entered += 1;
        let id = heard.entered;
        heard.steps.push(UnderWay { id, name: step_name(name), expected_end });
        self.acknowledge_if_unseen(&mut heard);
        id
    }

    /// The step goes on as something else, of which no end is known yet.
    pub fn rename(&self, id: u64, name: &str) {
        let mut heard = self.heard();
        if let Some(step) = heard.steps.iter_mut().find(|step| step.id == id) {
            step.name = step_name(name);
            step.expected_end = None;
            self.acknowledge_if_unseen(&mut heard);
        }
    }

    pub fn expect_end(&self, id: u64, end: Timestamp) {
        if let Some(step) = self.heard().steps.iter_mut().find(|step| step.id == id) {
            step.expected_end = Some(end);
        }
    }

    pub fn leave(&self, id: u64) {
        self.heard().steps.retain(|step| step.id != id);
    }

    /// The step that was entered last, of those under way.
    pub fn step(&self) -> Option<String> {
        self.heard().steps.last().map(|step| step.name.clone())
    }

    /// The lease went to somebody else: nothing is to be reported.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::SeqCst);
        self.cut.cancel();
    }

    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }

    /// The worker is leaving: the attempt is cut and given back, unless it ends by itself first.
    #[cfg(feature = "worker")]
    pub fn hand_back(&self) {
        self.handed_back.store(true, Ordering::SeqCst);
        self.cut.cancel();
    }

    pub fn is_handed_back(&self) -> bool {
        self.handed_back.load(Ordering::SeqCst)
    }

    /// More of what the code writes.
    pub fn write(&self, text: &str) {
        self.tail().push(text);
    }

    /// The end of what the code wrote; none where it wrote nothing.
    pub fn output(&self) -> Option<OutputKept> {
        let (tail, dropped_bytes) = self.tail().text()?;
        Some(OutputKept { attempt: self.number, tail, dropped_bytes })
    }

    /// The latest wins.
    pub fn note(&self, fraction: Option<f64>, message: String) {
        // Adding zero turns -0.0 into 0.0.
        let fraction = fraction.filter(|f| !f.is_nan()).map(|f| f.clamp(0.0, 1.0) + 0.0);
        let message = Some(message).filter(|message| !message.is_empty());
        self.progress.send_replace(Some(Progress { fraction, message, at: now() }));
    }

    /// What was said last, as it may be written down.
    pub fn progress(&self) -> Option<Progress> {
        let said = self.progress.borrow().clone()?;
        Some(Progress { message: said.message.and_then(|message| line(&message, TEXT_MAX)), ..said })
    }

    pub fn watch_progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    fn acknowledge_if_unseen(&self, heard: &mut Heard) {
        if heard.asked && !heard.observed && heard.answers < ACKNOWLEDGEMENTS_MAX {
            self.acknowledge(heard);
        }
    }

    fn acknowledge(&self, heard: &mut Heard) {
        heard.acknowledged = true;
        heard.answers += 1;
        let step = heard.steps.last();
        let ack = Ack {
            stopping_after: step.map(|step| step.name.clone()),
            expected_end: step.and_then(|step| step.expected_end),
        };
        // Where nobody receives, the attempt is over and there is nothing to acknowledge.
        let _ = self.acks.send(ack);
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic under the lock leaves nothing half done: each change is one assignment.
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn step_name(name: &str) -> String {
    line(name, TEXT_MAX).unwrap_or_else(|| "a step".to_owned())
}
