//! What the hub stores for each open socket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;

use super::backlog::{Backlog, StallClock};
use super::bells::{BellId, Bells};
use super::frames;
use super::messages::{AbortConnection, Closing, Push, SocketOpened, Subscription, Turn, bytes_of};
use super::push_queue::LastSend;
use super::shared_frames::SharedFrames;
use super::socket_thread::ThreadId;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::task::{Position, TaskId, Timestamp};
use crate::views::{BellCounters, Row, Scope, Views};

/// How many changed tasks a frame may contain. If more tasks have changed, the client must request its page again.
const TASKS_MAX: usize = 200;
/// A client's request is not answered while this many bytes wait for the connection. So at most this many bytes and one set of
/// frames wait.
const BACKLOG_MAX: usize = 16 * 1024;

/// Which frame with counters is to be sent to a socket.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PendingCounters {
    #[default]
    None,
    /// A counters frame, because the counters may have changed. It is sent only if the position of the views is later
    /// than the position of the last counters.
    Update,
    /// A snapshot, because the client has requested one.
    Snapshot,
}

/// An open socket.
pub(super) struct OpenSocket {
    /// The bell whose counters it gets.
    pub(super) bell: BellId,
    /// The thread on which it runs.
    pub(super) thread: ThreadId,
    visible: Scope,
    recipient: Recipient<Push>,
    pusher: Recipient<Turn>,
    backlog: Backlog,
    stall_clock: StallClock,
    abort: AbortConnection,
    subscription: Option<Subscription>,
    /// A `subscribed` frame is pending.
    confirm_subscription: bool,
    /// Position of the last snapshot or counters frame.
    last_counters_position: Position,
    pub(super) pending_counters: PendingCounters,
    /// The changed tasks that are to be sent.
    pending_tasks: HashSet<TaskId>,
    /// More tasks are pending than a frame may contain.
    pub(super) too_many_tasks: bool,
    /// A beat is pending.
    pub(super) pending_beat: bool,
    /// When frames with changes were last sent.
    pub(super) last_send: LastSend,
}

/// A socket to which the close frame was sent.
pub(super) struct ClosingSocket {
    backlog: Backlog,
    stall_clock: StallClock,
    abort: AbortConnection,
}

/// What the frames of all sockets are written from.
pub(super) struct FrameSource<'a> {
    pub(super) views: &'a Views,
    pub(super) queue_and_offers: &'a QueueAndOffers,
    /// The time and the `stale_since` of a beat.
    pub(super) beat: (Timestamp, Option<Timestamp>),
}

impl OpenSocket {
    /// A socket that gets its first frames now: the counters of this position.
    pub(super) fn new(opened: SocketOpened, bell: BellId, thread: ThreadId, counters: Position) -> Self {
        let SocketOpened { visible, recipient, pusher, backlog, abort, .. } = opened;
        Self {
            bell,
            thread,
            visible,
            recipient,
            pusher,
            backlog,
            stall_clock: StallClock::default(),
            abort,
            subscription: None,
            confirm_subscription: false,
            last_counters_position: counters,
            pending_counters: PendingCounters::None,
            pending_tasks: HashSet::new(),
            too_many_tasks: false,
            pending_beat: false,
            last_send: None,
        }
    }

    /// Replaces the subscription. Changes of tasks that were pending for the former subscription are dropped.
    pub(super) fn set_subscription(&mut self, subscription: Option<Subscription>) {
        self.confirm_subscription = subscription.is_some();
        self.subscription = subscription;
        self.pending_tasks.clear();
        self.too_many_tasks = false;
    }

    /// Adds the changed tasks that the subscription includes and the caller may see. Each change is the task before it and
    /// after it: a task that matched before is sent too, so that the client removes it from its page.
    pub(super) fn add_tasks<'a>(&mut self, changes: impl Iterator<Item = (Option<&'a Row>, &'a Row)>) {
        if let Some(subscription) = self.subscription.as_ref().filter(|_| !self.too_many_tasks) {
            let visible = changes.filter(|(_, after)| self.visible.includes(after.owner()));
            let matching = visible.filter(|(before, after)| {
                subscription.matches(after) || before.is_some_and(|before| subscription.matches(before))
            });
            self.pending_tasks.extend(matching.map(|(_, after)| after.id()));
            self.too_many_tasks = self.pending_tasks.len() > TASKS_MAX;
        }
    }

    /// Whether frames with changed tasks are pending.
    pub(super) fn has_pending_tasks(&self) -> bool {
        self.too_many_tasks || !self.pending_tasks.is_empty()
    }

    /// Whether frames with changes are pending, and not only a beat.
    pub(super) fn has_changes(&self) -> bool {
        self.pending_counters != PendingCounters::None || self.has_pending_tasks() || self.confirm_subscription
    }

    /// Whether the connection has taken all frames that were sent. If it hasn't, what is pending remains pending.
    pub(super) fn has_taken_all(&self) -> bool {
        self.backlog.bytes() == 0
    }

    /// Whether a client's request is answered now.
    pub(super) fn takes_answers(&self) -> bool {
        self.backlog.bytes() < BACKLOG_MAX
    }

    /// Takes what is pending, and writes its frames.
    pub(super) fn take_frames(
        &mut self,
        from: &FrameSource<'_>,
        bells: &Bells,
        shared: &mut SharedFrames,
    ) -> Vec<Arc<str>> {
        let mut frames = Vec::with_capacity(2);
        let position = from.views.position();
        if std::mem::take(&mut self.confirm_subscription) {
            frames.push(frames::subscribed(position).into());
        }
        frames.extend(self.take_counters_frame(from, bells, shared));
        if std::mem::take(&mut self.too_many_tasks) {
            frames.push(frames::tasks_changed(position).into());
            self.pending_tasks.clear();
        } else if !self.pending_tasks.is_empty() {
            frames.push(shared.tasks(from.views, &self.pending_tasks, from.queue_and_offers));
            self.pending_tasks.clear();
        }
        if std::mem::take(&mut self.pending_beat) {
            let (time, stale_since) = from.beat;
            frames.push(shared.beat(|| frames::beat(position, time, stale_since)));
        }
        frames
    }

    fn take_counters_frame(
        &mut self,
        from: &FrameSource<'_>,
        bells: &Bells,
        shared: &mut SharedFrames,
    ) -> Option<Arc<str>> {
        let pending = std::mem::take(&mut self.pending_counters);
        let (previous, position) = (self.last_counters_position, from.views.position());
        if pending == PendingCounters::None || (pending == PendingCounters::Update && position <= previous) {
            return None;
        }
        let counters: BellCounters = shared.counters(self.bell, || bells.counters(self.bell, from.views))?;
        self.last_counters_position = position;
        Some(match pending {
            PendingCounters::Snapshot => frames::snapshot(&counters).into(),
            PendingCounters::None | PendingCounters::Update => shared.counters_frame(self.bell, previous, &counters),
        })
    }

    /// Makes the push of these frames. From now on they wait for the connection.
    pub(super) fn push(&mut self, frames: Vec<Arc<str>>) -> (Recipient<Push>, Push) {
        self.backlog.add(bytes_of(&frames));
        (self.recipient.clone(), Push::Frames(frames))
    }

    /// For how long the client has read nothing although frames wait for it.
    pub(super) fn stalled_for(&mut self, now: Instant) -> Duration {
        self.stall_clock.stalled_for(&self.backlog, now)
    }

    /// Sends the frames without a turn.
    pub(super) fn send(&mut self, frames: Vec<Arc<str>>) {
        if !frames.is_empty() {
            let (recipient, push) = self.push(frames);
            self.pusher.do_send(Turn::of(recipient, push));
        }
    }

    /// Sends the close frame behind the frames that wait.
    pub(super) fn close(self, closing: Closing) -> ClosingSocket {
        self.pusher.do_send(Turn::of(self.recipient, Push::Close(closing)));
        ClosingSocket { backlog: self.backlog, stall_clock: StallClock::default(), abort: self.abort }
    }
}

impl ClosingSocket {
    /// For how long the client has read nothing since the close frame was sent. Once the close frame is in the write buffer of
    /// the HTTP server, this doesn't show any more whether the client reads.
    pub(super) fn quiet_for(&mut self, now: Instant) -> Duration {
        self.stall_clock.quiet_for(&self.backlog, now)
    }

    /// Ends the connection. What waits for it is dropped.
    pub(super) fn abort(self) {
        (self.abort)();
    }
}
