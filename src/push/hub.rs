//! The hub: it sends changes to the open sockets, after they are durable and the views show them.
//!
//! For each socket the hub stores what is pending: whether the counters have changed, and a bounded set of ids of changed
//! tasks. It writes the frames from the views when it sends them. So a socket gets the newest counters and not each change of
//! them, and at most 20 sets of frames a second. The responses to the client's requests (`subscribe`, `unsubscribe`, `resync`)
//! and the beats don't count: they don't wait for that interval. A slow client needs no more memory than a fast one. Each
//! counters frame contains the position of the counters that were sent before it, so a client notices if a frame is missing.
//!
//! If a client reads slowly:
//!
//! - **Normal**: its connection takes every frame at once. The hub sends what is pending when `FRAMES_INTERVAL` has passed
//!   since the last frames.
//! - **Backlog full**: frames wait for the connection, and the hub sends no more when they are many. What is pending remains pending,
//!   and later changes are added to it. The hub doesn't wait, so other sockets are not delayed.
//! - **Room again**: the connection takes frames again. The client gets the newest counters, with the position of the last counters
//!   that were sent to it as `previous`. It also gets the changed tasks, or `tasks_changed` if they are too many.
//! - **Stalled**: the connection takes nothing for the stall timeout. Then the hub sends a close frame with code 1013 behind the
//!   frames that wait. If the connection still takes nothing for `ABORT_TIMEOUT`, the hub ends it.
//!
//! When a client subscribes, the hub first stores the subscription and then reads the position from the views. So the client
//! gets every change after that position.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler};

use crate::store::{EventStore, now};
use crate::task::Timestamp;
use crate::views::Row;

use super::frames;
use super::messages::{CloseAll, Closing, CredentialEnded, SocketClosed, SocketId, SocketOpened, SocketRequest};
use super::open_sockets::OpenSockets;
use super::socket::{ClosingSocket, OpenSocket, PendingCounters};
use super::task_frames::TaskFrames;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::projection::freshness::Freshness;
use crate::projection::projector::ProgressShown;
use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::{Committed, Update};

/// The shortest time between two sets of frames to one socket. People can't read faster changes, and a push takes 7 µs.
const FRAMES_INTERVAL: Duration = Duration::from_millis(50);
/// The maximum number of requests of sockets in the hub's mailbox. Further requests are refused as `busy`.
const MAILBOX_CAPACITY: usize = 4096;
/// The time between two `beat` frames. Clients may rely on at least one every 15 s.
const BEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two checks of the freshness of the views, and between two checks for stalled sockets.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a stalled client may take to read what waits and the close frame.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The actor; see the module.
pub struct Hub {
    reader: ViewsReader,
    queue_and_offers: Arc<QueueAndOffers>,
    /// The log. Its id is the epoch of the frames, so a new log has another epoch. On a cluster the epoch is nil until the cluster has answered for the first time.
    store: EventStore,
    freshness: Freshness,
    /// The `stale_since` that was last sent to all sockets.
    sent_stale_since: Option<Timestamp>,
    sockets: HashMap<SocketId, OpenSocket>,
    /// The stalled sockets to which the close frame was sent.
    closing: Vec<ClosingSocket>,
    /// After this time without reading a client is stalled.
    stall_timeout: Duration,
    /// The server ends: no socket stays open.
    is_ending: bool,
    open_sockets: OpenSockets,
    /// The sockets for which frames are pending.
    pending: HashSet<SocketId>,
}

impl Hub {
    /// A hub without sockets.
    #[must_use]
    pub fn new(
        reader: ViewsReader,
        queue_and_offers: Arc<QueueAndOffers>,
        store: EventStore,
        freshness: Freshness,
        open_sockets: OpenSockets,
        stall_timeout: Duration,
    ) -> Self {
        Self {
            reader,
            queue_and_offers,
            store,
            freshness,
            sent_stale_since: None,
            sockets: HashMap::new(),
            closing: Vec::new(),
            stall_timeout,
            is_ending: false,
            open_sockets,
            pending: HashSet::new(),
        }
    }

    /// Marks changes as pending for each socket that they concern. Each change is a task before and after it.
    /// `counters_changed` says whether the counters of a socket may have changed.
    fn mark_pending<'a>(
        &mut self,
        changes: &(impl Iterator<Item = (Option<&'a Row>, &'a Row)> + Clone),
        counters_changed: impl Fn(&OpenSocket) -> bool,
    ) {
        for (id, socket) in &mut self.sockets {
            if socket.pending_counters == PendingCounters::None && counters_changed(socket) {
                socket.pending_counters = PendingCounters::Update;
            }
            socket.add_tasks(changes.clone());
            if socket.pending_counters != PendingCounters::None || socket.has_pending_tasks() {
                self.pending.insert(*id);
            }
        }
    }

    /// Sends what is pending to every socket whose interval since the last send has passed.
    fn send_due(&mut self) {
        let now = Instant::now();
        let mut task_frames = TaskFrames::default();
        let pending: Vec<SocketId> = self.pending.iter().copied().collect();
        for id in pending {
            let is_due = |socket: &OpenSocket| now.duration_since(socket.last_send) >= FRAMES_INTERVAL;
            if self.sockets.get(&id).is_none_or(is_due) {
                self.send_pending(id, now, &mut task_frames);
            }
        }
    }

    /// Writes the frames of what is pending for this socket, and sends them. If its connection takes no frames, they remain
    /// pending and are not written.
    fn send_pending(&mut self, id: SocketId, now: Instant, task_frames: &mut TaskFrames) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            self.pending.remove(&id);
            return;
        };
        if !socket.takes_frames() {
            return;
        }
        let views = self.reader.views();
        let position = views.position();
        let frames = socket.pending_frames(&views, &self.queue_and_offers, task_frames);
        drop(views);
        if frames.is_empty() || socket.send(frames, now) {
            socket.clear_pending(position);
            self.pending.remove(&id);
        }
    }

    fn send_beat(&mut self) {
        self.sent_stale_since = self.freshness.stale_since();
        let frame: Arc<str> = frames::beat(self.reader.position(), now(), self.sent_stale_since).into();
        let at = Instant::now();
        for socket in self.sockets.values_mut() {
            socket.send(vec![Arc::clone(&frame)], at);
        }
    }

    /// If `stale_since` has changed, sends a beat to all sockets now instead of at its regular time.
    fn send_beat_if_stale_changed(&mut self) {
        if self.freshness.stale_since() != self.sent_stale_since {
            self.send_beat();
        }
    }

    /// Closes the stalled sockets, and ends the connections of those that were closed a while ago. Most of these connections
    /// have ended by themselves by then.
    fn close_stalled(&mut self) {
        let now = Instant::now();
        for (id, socket) in self.sockets.extract_if(|_, socket| socket.stalled_for(now) >= self.stall_timeout) {
            tracing::info!(socket = id, "a websocket is closed with 1013: its client doesn't read");
            self.closing.push(socket.close(Closing::Stalled));
        }
        for socket in self.closing.extract_if(.., |socket| socket.quiet_for(now) >= ABORT_TIMEOUT) {
            socket.abort();
        }
        self.open_sockets.set(self.sockets.len());
    }

    /// Closes all sockets because the server ends.
    fn close_all(&mut self) {
        self.is_ending = true;
        for (_, socket) in self.sockets.drain() {
            socket.close(Closing::ServerEnds);
        }
        self.pending.clear();
        self.open_sockets.set(0);
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(FRAMES_INTERVAL, |this, _| this.send_due());
        ctx.run_interval(BEAT_INTERVAL, |this, _| this.send_beat());
        ctx.run_interval(CHECK_INTERVAL, |this, _| {
            this.send_beat_if_stale_changed();
            this.close_stalled();
        });
    }
}

impl Handler<SocketOpened> for Hub {
    type Result = ();

    fn handle(&mut self, opened: SocketOpened, _: &mut Context<Self>) {
        let id = opened.socket;
        let mut socket = OpenSocket::new(opened, Instant::now());
        if self.is_ending {
            socket.close(Closing::ServerEnds);
            return;
        }
        // The number of open sockets is increased before the views are read. So the projector sends the hub every event that
        // it applies after this read.
        self.open_sockets.set(self.sockets.len() + 1);
        let counters = socket.counters(&self.reader.views());
        socket.last_counters_position = counters.position;
        // `sent_stale_since` is one value for all sockets, so the other sockets must have the present value before this one joins.
        self.send_beat_if_stale_changed();
        let hello = frames::hello(self.store.epoch(), counters.position, now(), self.sent_stale_since);
        let frames = vec![hello.into(), frames::snapshot(&counters).into()];
        // This can't fail: no frames wait for a new socket.
        socket.send(frames, Instant::now());
        self.sockets.insert(id, socket);
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

impl Handler<CredentialEnded> for Hub {
    type Result = ();

    fn handle(&mut self, ended: CredentialEnded, _: &mut Context<Self>) {
        if let Some(socket) = self.sockets.remove(&ended.socket) {
            self.closing.push(socket.close(Closing::CredentialEnded));
        }
        self.pending.remove(&ended.socket);
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
        self.send_pending(id, Instant::now(), &mut TaskFrames::default());
    }
}

impl Hub {
    fn apply(&mut self, committed: &Committed) {
        let changes = committed.changes.iter().map(|change| (change.before.as_ref(), &change.after));
        self.mark_pending(&changes, |socket| socket.shows_one_of(&committed.owners));
    }

    /// The hub has missed events. Every socket gets its counters, and every client with a subscription must request its page
    /// of tasks again.
    fn catch_up(&mut self) {
        self.mark_pending(&std::iter::empty(), |_| true);
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
        self.mark_pending(&std::iter::once((None, &shown.row)), |_| false);
        self.send_due();
    }
}

impl Handler<Stop> for Hub {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        self.close_all();
        ctx.stop();
    }
}

impl Handler<CloseAll> for Hub {
    type Result = ();

    fn handle(&mut self, _: CloseAll, _: &mut Context<Self>) {
        self.close_all();
    }
}
