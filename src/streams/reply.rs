//! Where an actor's answer goes: to the caller of one command, or to its place among the answers of a batch.
//!
//! A reply that is dropped is an answer too: the actor has died, and the outcome is unknown to its caller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use actix::dev::OneshotSender;

use super::messages::ExecuteError;

type Answer<A> = Result<A, ExecuteError>;

/// Where one answer goes.
pub(super) enum Reply<A> {
    /// To the caller of a single command.
    One(OneshotSender<Answer<A>>),
    /// To a place in a batch.
    Batch(Slot<A>),
}

impl<A> Reply<A> {
    pub(super) fn send(self, answer: Answer<A>) {
        match self {
            // A caller that has gone needs no answer.
            Self::One(caller) => drop(caller.send(answer)),
            Self::Batch(slot) => slot.fill(answer),
        }
    }
}

/// A place among the answers of a batch.
pub(super) struct Slot<A> {
    batch: Arc<Batch<A>>,
    place: usize,
}

/// The answers of a batch, sent to its caller when the last place is filled or given up.
struct Batch<A> {
    answers: Mutex<Answers<A>>,
    /// Places that are neither filled nor given up.
    open: AtomicUsize,
}

struct Answers<A> {
    places: Vec<Option<Answer<A>>>,
    caller: Option<OneshotSender<Vec<Answer<A>>>>,
}

/// The places of a batch of this many answers, in order.
pub(super) fn batch<A>(count: usize, caller: OneshotSender<Vec<Answer<A>>>) -> impl Iterator<Item = Slot<A>> {
    let places = std::iter::repeat_with(|| None).take(count).collect();
    let answers = Mutex::new(Answers { places, caller: Some(caller) });
    let batch = Arc::new(Batch { answers, open: AtomicUsize::new(count) });
    (0..count).map(move |place| Slot { batch: Arc::clone(&batch), place })
}

impl<A> Slot<A> {
    fn fill(self, answer: Answer<A>) {
        let mut answers = self.batch.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = answers.places.get_mut(self.place) {
            *place = Some(answer);
        }
    }
}

impl<A> Drop for Slot<A> {
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
        let places = std::mem::take(&mut answers.places);
        let given_up = || Err(ExecuteError::Busy("the stream's actor gave no answer"));
        let answers = places.into_iter().map(|answer| answer.unwrap_or_else(given_up)).collect();
        // A caller that has gone needs no answer.
        drop(caller.send(answers));
    }
}
