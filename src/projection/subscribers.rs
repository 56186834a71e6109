//! What the projector tells its subscribers, and what it does when one of them is slow.
//!
//! A subscriber's backlog is bounded by events. Before the bound is reached it gets each batch that concerns it. When a
//! batch would pass the bound, it is left out, and so is all that follows, until the subscriber has worked off its backlog:
//! then it gets one [`Update::Missed`] and must make its state anew from the views or the log, which hold everything that
//! was left out. After that it gets batches again. A batch that the views held already when it caught up comes once more;
//! a subscriber tells by the positions of the events.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Message, Recipient};

use crate::store::Recorded;
use crate::views::Changed;

/// Events that may wait for a subscriber: half a second of the highest load that was measured, some 100 MB.
pub const BACKLOG_MAX: usize = 100_000;

/// From the projector to a subscriber, after the views have moved.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Update {
    /// These events are in the views.
    Committed(Committed),
    /// Events were left out: make your state anew from the views.
    Missed,
}

/// These events are durable and in the views.
#[derive(Debug)]
pub struct Committed {
    /// The events, oldest first.
    pub events: Arc<[Arc<Recorded>]>,
    /// What they did to tasks, in the same order.
    pub changes: Arc<[Changed]>,
    /// Whose counters may have changed.
    pub owners: Arc<HashSet<Arc<str>>>,
    /// Counts the events as waiting until the subscriber drops the message.
    _backlog: Backlog,
}

/// A part of a subscriber's backlog.
#[derive(Debug)]
struct Backlog {
    waiting: Arc<AtomicUsize>,
    events: usize,
}

impl Drop for Backlog {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.events, Ordering::AcqRel);
    }
}

/// A batch, before it is sent to anybody.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) events: Arc<[Arc<Recorded>]>,
    pub(super) changes: Arc<[Changed]>,
    pub(super) owners: Arc<HashSet<Arc<str>>>,
}

/// An actor that hears of events once they are in the views.
pub struct Subscriber {
    recipient: Recipient<Update>,
    /// Whether it needs to know of such an event.
    concerns: Box<dyn Fn(&Recorded) -> bool + Send>,
    /// Events that were sent to it and that it has not worked off.
    waiting: Arc<AtomicUsize>,
    limit: usize,
    /// Batches were left out, and it has not been told so yet.
    has_missed: bool,
}

impl Subscriber {
    /// A subscriber that needs to know of the events that concern it, with [`BACKLOG_MAX`].
    #[must_use]
    pub fn new(recipient: Recipient<Update>, concerns: impl Fn(&Recorded) -> bool + Send + 'static) -> Self {
        Self { recipient, concerns: Box::new(concerns), waiting: Arc::default(), limit: BACKLOG_MAX, has_missed: false }
    }

    /// The same with another bound on its backlog.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Sends the batch, if it concerns the subscriber and its backlog has room.
    pub(super) fn publish(&mut self, batch: &Batch) {
        if !batch.events.iter().any(|recorded| (self.concerns)(recorded)) {
            return;
        }
        let (events, waiting) = (batch.events.len(), self.waiting.load(Ordering::Acquire));
        // A batch alone may be larger than the bound.
        if self.has_missed || (waiting > 0 && waiting + events > self.limit) {
            self.has_missed = true;
            self.catch_up();
            return;
        }
        self.waiting.fetch_add(events, Ordering::AcqRel);
        let Batch { events: sent, changes, owners } = batch.clone();
        let _backlog = Backlog { waiting: Arc::clone(&self.waiting), events };
        self.recipient.do_send(Update::Committed(Committed { events: sent, changes, owners, _backlog }));
    }

    /// Tells a subscriber that missed something so, as soon as it has worked off its backlog. Whether it still has to be told.
    pub(super) fn catch_up(&mut self) -> bool {
        if self.has_missed && self.waiting.load(Ordering::Acquire) == 0 {
            self.has_missed = false;
            self.recipient.do_send(Update::Missed);
        }
        self.has_missed
    }
}
