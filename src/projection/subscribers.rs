//! The messages from the projector to its subscribers, and the bound on a subscriber's backlog.
//!
//! The backlog of a subscriber is the events that were sent to it and that it has not handled yet. Its bound is a number of
//! events.
//!
//! - **Before the bound is reached**, the subscriber gets each batch that concerns it.
//! - **When a batch would exceed the bound**, the projector doesn't send it, nor any later batch, until the subscriber has
//!   handled its backlog.
//! - **After that**, the projector sends one [`Update::Missed`]. The subscriber must rebuild its state from the views or the
//!   log, which contain the events that were not sent. Then it gets batches again. The views may have contained such a batch
//!   when the subscriber rebuilt its state. The subscriber recognises that by the positions of the events.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::{Message, Recipient};

use crate::store::Recorded;
use crate::views::TaskChange;

/// How many events may wait for a subscriber. They take about 100 MB. In measurements the highest load produced this number of
/// events in half a second.
pub const BACKLOG_MAX: usize = 100_000;

/// From the projector to a subscriber, after the views have changed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum Update {
    /// The views show these events now.
    Committed(Committed),
    /// Events were not sent. The subscriber must rebuild its state from the views.
    Missed,
}

/// A batch of events that are durable and that the views show.
#[derive(Debug)]
pub struct Committed {
    /// The events, in the order of their positions.
    pub events: Arc<[Arc<Recorded>]>,
    /// The changes of tasks by these events, in the same order.
    pub changes: Arc<[TaskChange]>,
    /// The owners whose counters may have changed.
    pub owners: Arc<HashSet<Arc<str>>>,
    /// The events count as a part of the subscriber's backlog until this message is dropped.
    #[expect(dead_code, reason = "only its drop has an effect")]
    backlog_part: BacklogPart,
}

/// A part of a subscriber's backlog. Its drop subtracts the events from the backlog.
#[derive(Debug)]
struct BacklogPart {
    /// How many events are in the whole backlog.
    backlog: Arc<AtomicUsize>,
    /// How many events are in this part.
    events: usize,
}

impl Drop for BacklogPart {
    fn drop(&mut self) {
        self.backlog.fetch_sub(self.events, Ordering::AcqRel);
    }
}

/// A batch of events that the views show, before it is sent to the subscribers. The fields are as in [`Committed`].
#[derive(Clone, Debug)]
pub(super) struct AppliedBatch {
    pub(super) events: Arc<[Arc<Recorded>]>,
    pub(super) changes: Arc<[TaskChange]>,
    pub(super) owners: Arc<HashSet<Arc<str>>>,
}

/// An actor that receives events after they were applied to the views.
pub struct Subscriber {
    recipient: Recipient<Update>,
    /// Whether the subscriber needs this event.
    concerns: Box<dyn Fn(&Recorded) -> bool + Send>,
    /// How many events are in the subscriber's backlog.
    backlog: Arc<AtomicUsize>,
    backlog_max: usize,
    /// Batches were not sent, and the subscriber has not got [`Update::Missed`] for them yet.
    has_missed: bool,
}

impl Subscriber {
    /// A subscriber with a backlog of at most [`BACKLOG_MAX`]. It gets a batch if one of its events `concerns` the subscriber.
    #[must_use]
    pub fn new(recipient: Recipient<Update>, concerns: impl Fn(&Recorded) -> bool + Send + 'static) -> Self {
        let (concerns, backlog) = (Box::new(concerns), Arc::default());
        Self { recipient, concerns, backlog, backlog_max: BACKLOG_MAX, has_missed: false }
    }

    /// The same subscriber with another bound on its backlog.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn with_backlog_max(self, backlog_max: usize) -> Self {
        Self { backlog_max, ..self }
    }

    /// Sends the batch if it concerns the subscriber and doesn't exceed the bound of the backlog.
    pub(super) fn publish(&mut self, batch: &AppliedBatch) {
        if !batch.events.iter().any(|recorded| (self.concerns)(recorded)) {
            return;
        }
        let (events, backlog) = (batch.events.len(), self.backlog.load(Ordering::Acquire));
        // If the backlog is empty, a batch is sent even if it is larger than the bound.
        if self.has_missed || (backlog > 0 && backlog + events > self.backlog_max) {
            self.has_missed = true;
            self.inform_if_missed();
            return;
        }
        self.backlog.fetch_add(events, Ordering::AcqRel);
        let backlog_part = BacklogPart { backlog: Arc::clone(&self.backlog), events };
        let AppliedBatch { events, changes, owners } = batch.clone();
        self.recipient.do_send(Update::Committed(Committed { events, changes, owners, backlog_part }));
    }

    /// Sends [`Update::Missed`] if the subscriber has missed events and has handled its backlog. Returns true if the
    /// subscriber has missed events but still has a backlog, so that this must be called again.
    pub(super) fn inform_if_missed(&mut self) -> bool {
        if self.has_missed && self.backlog.load(Ordering::Acquire) == 0 {
            self.has_missed = false;
            self.recipient.do_send(Update::Missed);
        }
        self.has_missed
    }
}
