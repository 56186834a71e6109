//! What the hub stores for each open socket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;

use super::backlog::{Backlog, StallClock};
use super::frames;
use super::messages::{AbortConnection, Closing, Push, SocketOpened, Subscription, bytes_of};
use super::task_frames::TaskFrames;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::task::{Position, TaskId};
use crate::views::{BellCounters, Row, Scope, Views};

/// How many changed tasks a frame may contain. If more tasks have changed, the client must request its page again.
const TASKS_MAX: usize = 200;
/// No more frames are sent while this many bytes wait for the connection. So at most this many bytes and one set of frames
/// wait.
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
    bell: Scope,
    viewer: Arc<str>,
    visible: Scope,
    recipient: Recipient<Push>,
    backlog: Backlog,
    stall_clock: StallClock,
    abort: AbortConnection,
    pub(super) subscription: Option<Subscription>,
    /// A `subscribed` frame is pending.
    confirm_subscription: bool,
    /// Position of the last snapshot or counters frame.
    pub(super) last_counters_position: Position,
    pub(super) pending_counters: PendingCounters,
    /// The changed tasks that are to be sent.
    pending_tasks: HashSet<TaskId>,
    /// More tasks are pending than a frame may contain.
    pub(super) too_many_tasks: bool,
    /// When frames were last sent.
    pub(super) last_send: Instant,
}

/// A socket to which the close frame was sent.
pub(super) struct ClosingSocket {
    backlog: Backlog,
    stall_clock: StallClock,
    abort: AbortConnection,
}

impl OpenSocket {
    pub(super) fn new(opened: SocketOpened, now: Instant) -> Self {
        let SocketOpened { socket: _, bell, viewer, visible, recipient, backlog, abort } = opened;
        Self {
            bell,
            viewer,
            visible,
            recipient,
            backlog,
            stall_clock: StallClock::default(),
            abort,
            subscription: None,
            confirm_subscription: false,
            last_counters_position: Position(0),
            pending_counters: PendingCounters::None,
            pending_tasks: HashSet::new(),
            too_many_tasks: false,
            last_send: now,
        }
    }

    /// Replaces the subscription. Changes of tasks that were pending for the former subscription are dropped.
    pub(super) fn set_subscription(&mut self, subscription: Option<Subscription>) {
        self.confirm_subscription = subscription.is_some();
        self.subscription = subscription;
        self.pending_tasks.clear();
        self.too_many_tasks = false;
    }

    /// The counters of the socket's bell.
    pub(super) fn counters(&self, views: &Views) -> BellCounters {
        views.bell(&self.bell, &self.viewer)
    }

    /// Whether the counters of the socket's bell may have changed when those of one of these owners have.
    pub(super) fn shows_one_of(&self, owners: &HashSet<Arc<str>>) -> bool {
        match &self.bell {
            Scope::Everyone => !owners.is_empty(),
            // The bell of several owners depends on what the viewer has seen.
            Scope::Owners(names) => {
                names.len() > 1 && owners.contains(&self.viewer)
                    || names.iter().any(|name| owners.contains(name.as_str()))
            }
        }
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

    pub(super) fn has_pending_tasks(&self) -> bool {
        self.too_many_tasks || !self.pending_tasks.is_empty()
    }

    /// Whether the connection takes frames. If too many bytes wait for it, what is pending remains pending.
    pub(super) fn takes_frames(&self) -> bool {
        self.backlog.bytes() < BACKLOG_MAX
    }

    /// Writes the frames of what is pending.
    pub(super) fn pending_frames(
        &self,
        views: &Views,
        queue_and_offers: &QueueAndOffers,
        task_frames: &mut TaskFrames,
    ) -> Vec<Arc<str>> {
        let mut frames = Vec::with_capacity(2);
        let position = views.position();
        if self.confirm_subscription {
            frames.push(frames::subscribed(position).into());
        }
        match self.pending_counters {
            PendingCounters::Update if position > self.last_counters_position => {
                frames.push(frames::counters(self.last_counters_position, &self.counters(views)).into());
            }
            PendingCounters::Snapshot => frames.push(frames::snapshot(&self.counters(views)).into()),
            PendingCounters::None | PendingCounters::Update => {}
        }
        if self.too_many_tasks {
            frames.push(frames::tasks_changed(position).into());
        } else if !self.pending_tasks.is_empty() {
            frames.push(task_frames.get(views, &self.pending_tasks, queue_and_offers));
        }
        frames
    }

    /// Notes that the frames of what was pending were sent. They reflect this position.
    pub(super) fn clear_pending(&mut self, position: Position) {
        if self.pending_counters != PendingCounters::None {
            self.last_counters_position = position;
        }
        self.pending_counters = PendingCounters::None;
        self.confirm_subscription = false;
        self.too_many_tasks = false;
        self.pending_tasks.clear();
    }

    /// Sends the frames to the socket. Returns false if its connection takes no frames, or its mailbox is full.
    pub(super) fn send(&mut self, frames: Vec<Arc<str>>, now: Instant) -> bool {
        if !self.takes_frames() {
            return false;
        }
        self.last_send = now;
        let bytes = bytes_of(&frames);
        // The bytes are added first, because the socket may remove them before `try_send` returns.
        self.backlog.add(bytes);
        let sent = self.recipient.try_send(Push::Frames(frames)).is_ok();
        if !sent {
            self.backlog.remove(bytes);
        }
        sent
    }

    /// For how long the client has read nothing although frames wait for it.
    pub(super) fn stalled_for(&mut self, now: Instant) -> Duration {
        self.stall_clock.stalled_for(&self.backlog, now)
    }

    /// Sends the close frame behind the frames that wait.
    pub(super) fn close(self, closing: Closing) -> ClosingSocket {
        self.recipient.do_send(Push::Close(closing));
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
