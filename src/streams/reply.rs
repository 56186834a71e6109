//! Delivers an actor's answer to the caller of one command, or to a slot among the answers of a batch.
//!
//! If an actor dies, its replies are dropped without an answer. The caller of a single command sees that the channel is
//! closed. In a batch the answer is [`ExecuteError::Busy`]. In both cases the outcome is unknown to the caller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::dev::OneshotSender;

use super::messages::ExecuteError;

type Answer<A> = Result<A, ExecuteError>;

/// The destination of one answer.
pub(super) enum Reply<A> {
    /// To the caller of a single command.
    One(OneshotSender<Answer<A>>),
    /// To a slot of a batch.
    Batch(BatchSlot<A>),
}

impl<A> Reply<A> {
    pub(super) fn send(self, answer: Answer<A>) {
        match self {
            // If the caller is gone, the answer is dropped.
            Self::One(caller) => drop(caller.send(answer)),
            Self::Batch(slot) => slot.fill(answer),
        }
    }
}

/// The slot for one answer of a batch.
pub(super) struct BatchSlot<A> {
    batch: Arc<Batch<A>>,
    index: usize,
}

/// The answers of a batch. They are sent to the caller when the last slot is dropped, filled or not.
struct Batch<A> {
    answers: Mutex<Answers<A>>,
    /// The number of slots that are not dropped yet.
    open: AtomicUsize,
}

struct Answers<A> {
    slots: Vec<Option<Answer<A>>>,
    caller: Option<OneshotSender<Vec<Answer<A>>>>,
}

/// The slots for the `count` answers of a batch, in order.
pub(super) fn batch_slots<A>(
    count: usize,
    caller: OneshotSender<Vec<Answer<A>>>,
) -> impl Iterator<Item = BatchSlot<A>> {
    let slots = std::iter::repeat_with(|| None).take(count).collect();
    let answers = Mutex::new(Answers { slots, caller: Some(caller) });
    let batch = Arc::new(Batch { answers, open: AtomicUsize::new(count) });
    (0..count).map(move |index| BatchSlot { batch: Arc::clone(&batch), index })
}

impl<A> BatchSlot<A> {
    fn fill(self, answer: Answer<A>) {
        let mut answers = self.batch.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = answers.slots.get_mut(self.index) {
            *slot = Some(answer);
        }
    }
}

impl<A> Drop for BatchSlot<A> {
    fn drop(&mut self) {
        if self.batch.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.batch.send();
        }
    }
}

impl<A> Batch<A> {
    fn send(&self) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(caller) = answers.caller.take() else { return };
        let slots = std::mem::take(&mut answers.slots);
        let unanswered = || Err(ExecuteError::Busy("the stream's actor gave no answer"));
        let answers = slots.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect();
        // If the caller is gone, the answer is dropped.
        drop(caller.send(answers));
    }
}
