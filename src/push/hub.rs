//! The hub: it sends changes to the open sockets, after they are durable and the views show them.
//!
//! For each socket the hub stores what is pending: whether the counters have changed, and a bounded set of ids of changed
//! tasks. It writes the frames from the views when it sends them. So a socket gets the newest counters and not each change of
//! them, and at most 20 sets of frames a second. A slow client needs no more memory than a fast one. Each counters frame
//! contains the position of the counters that were sent before it, so a client notices if a frame is missing.
//!
//! If a client reads slowly:
//!
//! - **Before**, the mailbox of its socket has room. The hub sends what is pending when `FRAMES_INTERVAL` has passed since the
//!   last frames.
//! - **During**, the mailbox is full and a send fails. What was pending remains pending, and later changes are added to it.
//!   The hub tries again after each `FULL_RETRY_INTERVAL`. The hub doesn't wait, so other sockets are not delayed.
//! - **After**, a send succeeds. The client gets the newest counters, with the position of the last counters that were sent to
//!   it as `previous`. It also gets the changed tasks, or `tasks_changed` if they are too many. If no send succeeds for
//!   `STALL_MAX`, the hub closes the socket with code 1013.
//!
//! When a client subscribes, the hub first stores the subscription and then reads the position from the views. So the client
//! gets every change after that position.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};

use crate::store::{EventStore, now};
use crate::task::{Position, TaskId, Timestamp};
use crate::views::Row;

use super::frames;
use super::messages::{Push, SocketClosed, SocketId, SocketOpened, SocketRequest, Subscription};
use super::open_sockets::OpenSockets;
use crate::dispatch::capacity::Capacity;
use crate::projection::freshness::Freshness;
use crate::projection::projector::{ProgressShown, Stop};
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::{Committed, Update};

/// The shortest time between two sets of frames to one socket. People can't read faster changes, and a push takes 7 µs.
const FRAMES_INTERVAL: Duration = Duration::from_millis(50);
/// The time between two attempts to send to a socket whose mailbox is full. It is long because each attempt writes the frames
/// again.
const FULL_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How many requests of sockets may wait in the hub's mailbox. Further requests are refused as `busy`.
const MAILBOX_CAPACITY: usize = 4096;
/// The time between two `beat` frames. The contract promises at least one every 15 s.
const BEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two checks of the freshness of the views, and between two checks for stalled sockets.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A socket is closed if its mailbox has been full for this long.
const STALL_MAX: Duration = Duration::from_secs(30);
/// How many changed tasks a frame may contain. If more tasks have changed, the client must request its page again.
const TASKS_MAX: usize = 200;
/// The websocket close code "try again later", for a client that reads too slowly.
const CLOSE_TRY_AGAIN_LATER: u16 = 1013;

/// Which frame with counters is to be sent to a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PendingCounters {
    None,
    /// A counters frame, because the owner's counters may have changed. It is sent only if the position of the views is later
    /// than the position of the last counters.
    Counters,
    /// A snapshot, because the client has requested one.
    Snapshot,
}

/// The state of an open socket.
struct SocketState {
    owner: Arc<str>,
    recipient: Recipient<Push>,
    subscription: Option<Subscription>,
    /// A `subscribed` frame is pending.
    confirm_subscription: bool,
    /// Position of the last snapshot or counters frame.
    last_counters_position: Position,
    pending_counters: PendingCounters,
    /// The changed tasks that are to be sent.
    pending_tasks: HashSet<TaskId>,
    /// More tasks are pending than a frame may contain.
    too_many_tasks: bool,
    /// When frames were last sent, or a send failed.
    last_send: Instant,
    /// Since when the mailbox of the socket is full; `None` if the last send succeeded.
    full_since: Option<Instant>,
}

/// The actor; see the module.
pub struct Hub {
    reader: ViewsReader,
    capacity: Arc<Capacity>,
    /// For the epoch of the log. On a cluster the epoch is nil until the cluster has answered for the first time.
    store: EventStore,
    freshness: Freshness,
    /// The `stale_since` that was last sent to all sockets.
    sent_stale_since: Option<Timestamp>,
    sockets: HashMap<SocketId, SocketState>,
    open_sockets: OpenSockets,
    /// The sockets for which frames are pending.
    pending: HashSet<SocketId>,
}

impl Hub {
    /// A hub without sockets.
    #[must_use]
    pub fn new(
        reader: ViewsReader,
        capacity: Arc<Capacity>,
        store: EventStore,
        freshness: Freshness,
        open_sockets: OpenSockets,
    ) -> Self {
        let (sockets, pending) = (HashMap::new(), HashSet::new());
        Self { reader, capacity, store, freshness, sent_stale_since: None, sockets, open_sockets, pending }
    }

    /// Marks a change as pending for each socket that it concerns. `changed_tasks` returns the changed tasks that a
    /// subscription includes. `counters_changed` says whether the counters of an owner may have changed.
    fn mark_pending(
        &mut self,
        changed_tasks: impl Fn(&Subscription) -> Vec<TaskId>,
        counters_changed: impl Fn(&str) -> bool,
    ) {
        for (id, socket) in &mut self.sockets {
            if socket.pending_counters == PendingCounters::None && counters_changed(&socket.owner) {
                socket.pending_counters = PendingCounters::Counters;
            }
            if let Some(subscription) = socket.subscription.as_ref().filter(|_| !socket.too_many_tasks) {
                socket.pending_tasks.extend(changed_tasks(subscription));
                socket.too_many_tasks = socket.pending_tasks.len() > TASKS_MAX;
            }
            let has_pending_tasks = socket.too_many_tasks || !socket.pending_tasks.is_empty();
            if socket.pending_counters != PendingCounters::None || has_pending_tasks {
                self.pending.insert(*id);
            }
        }
    }

    /// Sends what is pending to every socket whose interval since the last send has passed.
    fn send_due(&mut self) {
        let now = Instant::now();
        let pending: Vec<SocketId> = self.pending.iter().copied().collect();
        for id in pending {
            let is_due = |socket: &SocketState| {
                let interval = if socket.full_since.is_some() { FULL_RETRY_INTERVAL } else { FRAMES_INTERVAL };
                now.duration_since(socket.last_send) >= interval
            };
            if self.sockets.get(&id).is_none_or(is_due) {
                self.send_pending(id, now);
            }
        }
    }

    /// Writes the frames of what is pending for this socket, and sends them. If the mailbox is full, they remain pending.
    fn send_pending(&mut self, id: SocketId, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            self.pending.remove(&id);
            return;
        };
        let mut frames = Vec::with_capacity(2);
        let views = self.reader.views();
        let position = views.position();
        if socket.confirm_subscription {
            frames.push(frames::subscribed(position));
        }
        match socket.pending_counters {
            PendingCounters::Counters if position > socket.last_counters_position => {
                frames.push(frames::counters(socket.last_counters_position, &views.counters(&socket.owner)));
            }
            PendingCounters::Snapshot => frames.push(frames::snapshot(&views.counters(&socket.owner))),
            PendingCounters::None | PendingCounters::Counters => {}
        }
        if socket.too_many_tasks {
            frames.push(frames::tasks_changed(position));
        } else if !socket.pending_tasks.is_empty() {
            frames.push(frames::tasks(&views, &socket.pending_tasks, &self.capacity));
        }
        drop(views);
        if frames.is_empty() || socket.send(frames, now) {
            if socket.pending_counters != PendingCounters::None {
                socket.last_counters_position = position;
            }
            socket.pending_counters = PendingCounters::None;
            socket.confirm_subscription = false;
            socket.too_many_tasks = false;
            socket.pending_tasks.clear();
            self.pending.remove(&id);
        }
    }

    fn send_beat(&mut self) {
        self.sent_stale_since = self.freshness.stale_since();
        let frame = frames::beat(self.reader.position(), now(), self.sent_stale_since);
        let at = Instant::now();
        for socket in self.sockets.values_mut() {
            socket.send(vec![frame.clone()], at);
        }
    }

    /// If `stale_since` has changed, sends a beat to all sockets now instead of at its regular time.
    fn send_freshness(&mut self) {
        if self.freshness.stale_since() != self.sent_stale_since {
            self.send_beat();
        }
    }

    /// Closes the stalled sockets. The client receives the close frame only after it has read the earlier frames. If it never
    /// reads them, the kernel closes the connection (`TCP_USER_TIMEOUT`).
    fn close_stalled(&mut self) {
        let now = Instant::now();
        self.sockets.retain(|_, socket| {
            let stalled = socket.full_since.is_some_and(|since| now.duration_since(since) >= STALL_MAX);
            if stalled {
                socket.recipient.do_send(Push::Close(CLOSE_TRY_AGAIN_LATER));
            }
            !stalled
        });
        self.open_sockets.set(self.sockets.len());
    }
}

impl SocketState {
    /// Replaces the subscription. Changes of tasks that were pending for the former subscription are dropped.
    fn set_subscription(&mut self, subscription: Option<Subscription>) {
        self.confirm_subscription = subscription.is_some();
        self.subscription = subscription;
        self.pending_tasks.clear();
        self.too_many_tasks = false;
    }

    /// Sends the frames to the socket. Returns false if its mailbox is full.
    fn send(&mut self, frames: Vec<String>, now: Instant) -> bool {
        let sent = self.recipient.try_send(Push::Frames(frames)).is_ok();
        self.last_send = now;
        self.full_since = if sent { None } else { self.full_since.or(Some(now)) };
        sent
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(FRAMES_INTERVAL, |this, _| this.send_due());
        ctx.run_interval(BEAT_INTERVAL, |this, _| this.send_beat());
        ctx.run_interval(CHECK_INTERVAL, |this, _| {
            this.send_freshness();
            this.close_stalled();
        });
    }
}

impl Handler<SocketOpened> for Hub {
    type Result = ();

    fn handle(&mut self, opened: SocketOpened, _: &mut Context<Self>) {
        let mut socket = SocketState {
            owner: opened.owner,
            recipient: opened.recipient,
            subscription: None,
            confirm_subscription: false,
            last_counters_position: Position(0),
            pending_counters: PendingCounters::None,
            pending_tasks: HashSet::new(),
            too_many_tasks: false,
            last_send: Instant::now(),
            full_since: None,
        };
        // The number of open sockets is increased before the views are read. So the projector sends the hub every event that
        // it applies after this read.
        self.open_sockets.set(self.sockets.len() + 1);
        let counters = self.reader.views().counters(&socket.owner);
        socket.last_counters_position = counters.position;
        // The other sockets get the present `stale_since` now. So all sockets have the same value when the new one is added.
        self.send_freshness();
        let hello = frames::hello(self.store.epoch(), counters.position, now(), self.sent_stale_since);
        let frames = vec![hello, frames::snapshot(&counters)];
        // This can't fail: the mailbox of a new socket is empty.
        socket.send(frames, Instant::now());
        self.sockets.insert(opened.socket, socket);
    }
}

impl Handler<SocketClosed> for Hub {
    type Result = ();

    fn handle(&mut self, closed: SocketClosed, _: &mut Context<Self>) {
        self.sockets.remove(&closed.socket);
        self.pending.remove(&closed.socket);
        self.open_sockets.set(self.sockets.len());
    }
}

impl Handler<SocketRequest> for Hub {
    type Result = ();

    fn handle(&mut self, request: SocketRequest, _: &mut Context<Self>) {
        let (SocketRequest::Resync(id) | SocketRequest::Subscribe(id, _) | SocketRequest::Unsubscribe(id)) = request;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match request {
            SocketRequest::Resync(_) => socket.pending_counters = PendingCounters::Snapshot,
            // The subscription is stored before `send_pending` reads the position. So no later change is missed.
            SocketRequest::Subscribe(_, subscription) => socket.set_subscription(Some(subscription)),
            SocketRequest::Unsubscribe(_) => socket.set_subscription(None),
        }
        self.pending.insert(id);
        self.send_pending(id, Instant::now());
    }
}

impl Hub {
    fn apply(&mut self, committed: &Committed) {
        // If a task matched before the change and doesn't match after it, it is sent too. The client then removes it from its
        // page.
        let changed_tasks = |subscription: &Subscription| {
            let matches = |row: &Row| subscription.matches(row);
            let changes = committed.changes.iter();
            changes
                .filter(|change| matches(&change.after) || change.before.as_ref().is_some_and(matches))
                .map(|change| change.after.id())
                .collect()
        };
        self.mark_pending(changed_tasks, |owner| committed.owners.contains(owner));
    }

    /// The hub has missed events. Every socket gets its counters, and every client with a subscription must request its page
    /// of tasks again.
    fn catch_up(&mut self) {
        self.mark_pending(|_| Vec::new(), |_| true);
        for (id, socket) in &mut self.sockets {
            if socket.subscription.is_some() {
                socket.too_many_tasks = true;
                self.pending.insert(*id);
            }
        }
    }
}

impl Handler<Update> for Hub {
    type Result = ();

    fn handle(&mut self, update: Update, _: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => self.apply(&committed),
            Update::Missed => self.catch_up(),
        }
        self.send_due();
    }
}

impl Handler<ProgressShown> for Hub {
    type Result = ();

    fn handle(&mut self, shown: ProgressShown, _: &mut Context<Self>) {
        let row = &shown.row;
        self.mark_pending(
            |subscription| if subscription.matches(row) { vec![row.id()] } else { Vec::new() },
            |_| false,
        );
        self.send_due();
    }
}

impl Handler<Stop> for Hub {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
