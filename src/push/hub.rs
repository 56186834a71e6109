//! The hub: sends what has changed to every socket, after it is durable and in the views.
//!
//! For each socket the hub keeps what is pending, not the frames: a mark for the counts and a bounded set of task ids. Frames
//! are written from the views at the moment they are sent. So a socket gets the newest counts and not all of them, at most 20
//! sets of frames a second, and a slow client takes no more memory than a quick one. Every counters frame names the position
//! of the counts frame before it, so a client notices a gap.
//!
//! Where a client is slow:
//!
//! - **Before**: its socket's mailbox has room. What is pending is sent as soon as `PACE` has passed since the last frames.
//! - **During**: the mailbox is full and a send fails. What was pending stays pending, and later changes are merged into it.
//!   The hub tries again every `PACE_FULL`. Other sockets don't wait for it.
//! - **After**: a send succeeds. The client gets the newest counts, with the position of the last counts that were sent to it
//!   as `previous`, and the tasks that have changed, or `tasks_changed` where they are too many. If no send succeeds for
//!   `STALL_MAX`, the socket is closed with code 1013.
//!
//! A subscription takes effect before its position is read from the views: every later change is marked for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Recipient};

use crate::store::{EventStore, now};
use crate::task::{Position, TaskId, Timestamp};
use crate::views::Row;

use super::audience::Audience;
use super::frames;
use super::messages::{Join, Leave, Push, SocketId, SocketRequest, Subscription};
use crate::dispatch::capacity::Capacity;
use crate::projection::freshness::Freshness;
use crate::projection::projector::{Progressed, Stop};
use crate::projection::reader::ViewsReader;
use crate::projection::subscribers::{Committed, Update};

/// The shortest time between two sets of frames to one socket: a push costs 7 µs, and people read no faster.
const PACE: Duration = Duration::from_millis(50);
/// The time between two attempts to send to a socket whose mailbox is full: each attempt writes the frames anew.
const PACE_FULL: Duration = Duration::from_millis(500);
/// The most requests of sockets that wait in the hub's mailbox; further ones are refused as `busy`.
const MAILBOX: usize = 4096;
/// The time between two `beat` frames; the contract promises at least one every 15 s.
const BEAT_EVERY: Duration = Duration::from_secs(10);
/// The time between two checks of the freshness of the views, and for sockets that have stalled.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// A socket that has taken no frame for this long is closed.
const STALL_MAX: Duration = Duration::from_secs(30);
/// The most changed tasks in a frame. Where more have changed, the client reads its page again.
const TASKS_MAX: usize = 200;
/// The close code for a client that is too slow: try again later.
const TRY_AGAIN: u16 = 1013;

/// Which counts are to be sent to a socket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PendingCounts {
    None,
    /// A counters frame, if the views have moved on since the last counts: the owner's counts may have changed.
    Counters,
    /// A snapshot, because the client has requested one.
    Snapshot,
}

struct Socket {
    owner: Arc<str>,
    to: Recipient<Push>,
    subscription: Option<Subscription>,
    /// A `subscribed` frame is pending.
    confirm_subscription: bool,
    /// Position of the last snapshot or counters frame.
    last_sent_position: Position,
    /// The counts that are pending.
    counts: PendingCounts,
    /// The changed tasks that are pending.
    tasks: HashSet<TaskId>,
    /// More tasks are pending than a frame lists.
    too_many: bool,
    /// When frames were last sent, or a send was tried.
    last_sent: Instant,
    /// Since when its mailbox has been full; none where the last send succeeded.
    full_since: Option<Instant>,
}

/// The actor; see the module.
pub struct Hub {
    read: ViewsReader,
    capacity: Arc<Capacity>,
    /// Knows the log's epoch, which is nil until a cluster has answered once.
    store: EventStore,
    freshness: Freshness,
    /// The freshness as every socket has received it.
    stale_since: Option<Timestamp>,
    sockets: HashMap<SocketId, Socket>,
    audience: Audience,
    /// The sockets with something pending.
    pending: HashSet<SocketId>,
}

impl Hub {
    /// A hub without sockets.
    #[must_use]
    pub fn new(
        read: ViewsReader,
        capacity: Arc<Capacity>,
        store: EventStore,
        freshness: Freshness,
        audience: Audience,
    ) -> Self {
        let (sockets, pending) = (HashMap::new(), HashSet::new());
        Self { read, capacity, store, freshness, stale_since: None, sockets, audience, pending }
    }

    /// Adds a change to what is pending: the tasks of it that `matching` finds for a subscription, and the counts of the
    /// owners for which `counts_of` holds.
    fn mark_pending(&mut self, matching: impl Fn(&Subscription) -> Vec<TaskId>, counts_of: impl Fn(&str) -> bool) {
        for (id, socket) in &mut self.sockets {
            if socket.counts == PendingCounts::None && counts_of(&socket.owner) {
                socket.counts = PendingCounts::Counters;
            }
            if let Some(subscription) = socket.subscription.as_ref().filter(|_| !socket.too_many) {
                socket.tasks.extend(matching(subscription));
                socket.too_many = socket.tasks.len() > TASKS_MAX;
            }
            if socket.counts != PendingCounts::None || socket.too_many || !socket.tasks.is_empty() {
                self.pending.insert(*id);
            }
        }
    }

    /// Sends what is pending to every socket whose pace allows it.
    fn send_due(&mut self) {
        let now = Instant::now();
        let pending: Vec<SocketId> = self.pending.iter().copied().collect();
        for id in pending {
            let pace = |socket: &Socket| if socket.full_since.is_some() { PACE_FULL } else { PACE };
            if self.sockets.get(&id).is_none_or(|socket| now.duration_since(socket.last_sent) >= pace(socket)) {
                self.send_pending(id, now);
            }
        }
    }

    /// Writes the frames of what is pending and sends them. Where the mailbox is full, it stays pending.
    fn send_pending(&mut self, id: SocketId, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            self.pending.remove(&id);
            return;
        };
        let mut frames = Vec::with_capacity(2);
        let views = self.read.views();
        let position = views.position();
        if socket.confirm_subscription {
            frames.push(frames::subscribed(position));
        }
        match socket.counts {
            PendingCounts::Counters if position > socket.last_sent_position => {
                frames.push(frames::counters(socket.last_sent_position, &views.counters(&socket.owner)));
            }
            PendingCounts::Snapshot => frames.push(frames::snapshot(&views.counters(&socket.owner))),
            PendingCounts::None | PendingCounts::Counters => {}
        }
        if socket.too_many {
            frames.push(frames::tasks_changed(position));
        } else if !socket.tasks.is_empty() {
            frames.push(frames::tasks(&views, &socket.tasks, &self.capacity));
        }
        drop(views);
        if frames.is_empty() || socket.send(frames, now) {
            if socket.counts != PendingCounts::None {
                socket.last_sent_position = position;
            }
            socket.counts = PendingCounts::None;
            socket.confirm_subscription = false;
            socket.too_many = false;
            socket.tasks.clear();
            self.pending.remove(&id);
        }
    }

    fn send_beat(&mut self) {
        self.stale_since = self.freshness.stale_since();
        let frame = frames::beat(self.read.position(), now(), self.stale_since);
        let at = Instant::now();
        for socket in self.sockets.values_mut() {
            socket.send(vec![frame.clone()], at);
        }
    }

    /// Sends beats ahead of their time where the views have become stale or fresh.
    fn send_freshness(&mut self) {
        if self.freshness.stale_since() != self.stale_since {
            self.send_beat();
        }
    }

    /// Closes sockets that have stalled. The close frame waits behind the frames that the client has not read. If the client
    /// never reads them, the kernel ends the connection (`TCP_USER_TIMEOUT`).
    fn close_stalled(&mut self) {
        let now = Instant::now();
        self.sockets.retain(|_, socket| {
            let stalled = socket.full_since.is_some_and(|since| now.duration_since(since) >= STALL_MAX);
            if stalled {
                socket.to.do_send(Push::Close(TRY_AGAIN));
            }
            !stalled
        });
        self.audience.set(self.sockets.len());
    }
}

impl Socket {
    /// Replaces the subscription. Changes that were pending for the former one are dropped.
    fn set_subscription(&mut self, subscription: Option<Subscription>) {
        self.confirm_subscription = subscription.is_some();
        self.subscription = subscription;
        self.tasks.clear();
        self.too_many = false;
    }

    /// Sends the frames if the mailbox has room, and says whether it had.
    fn send(&mut self, frames: Vec<String>, now: Instant) -> bool {
        let sent = self.to.try_send(Push::Frames(frames)).is_ok();
        self.last_sent = now;
        self.full_since = if sent { None } else { self.full_since.or(Some(now)) };
        sent
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(PACE, |this, _| this.send_due());
        ctx.run_interval(BEAT_EVERY, |this, _| this.send_beat());
        ctx.run_interval(CHECK_EVERY, |this, _| {
            this.send_freshness();
            this.close_stalled();
        });
    }
}

impl Handler<Join> for Hub {
    type Result = ();

    fn handle(&mut self, join: Join, _: &mut Context<Self>) {
        let mut socket = Socket {
            owner: join.owner,
            to: join.to,
            subscription: None,
            confirm_subscription: false,
            last_sent_position: Position(0),
            counts: PendingCounts::None,
            tasks: HashSet::new(),
            too_many: false,
            last_sent: Instant::now(),
            full_since: None,
        };
        // The count goes up before the views are read: what the projector applies after that is sent here.
        self.audience.set(self.sockets.len() + 1);
        let counters = self.read.views().counters(&socket.owner);
        socket.last_sent_position = counters.position;
        // Every socket has the same freshness, so the check of it notices each change for all of them.
        self.send_freshness();
        let hello = frames::hello(self.store.epoch(), counters.position, now(), self.stale_since);
        let frames = vec![hello, frames::snapshot(&counters)];
        // The mailbox of a socket that has just opened is empty.
        socket.send(frames, Instant::now());
        self.sockets.insert(join.socket, socket);
    }
}

impl Handler<Leave> for Hub {
    type Result = ();

    fn handle(&mut self, leave: Leave, _: &mut Context<Self>) {
        self.sockets.remove(&leave.socket);
        self.pending.remove(&leave.socket);
        self.audience.set(self.sockets.len());
    }
}

impl Handler<SocketRequest> for Hub {
    type Result = ();

    fn handle(&mut self, request: SocketRequest, _: &mut Context<Self>) {
        let (SocketRequest::Resync(id) | SocketRequest::Subscribe(id, _) | SocketRequest::Unsubscribe(id)) = request;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match request {
            // Where the mailbox is full the snapshot stays pending: the client waits for it.
            SocketRequest::Resync(_) => socket.counts = PendingCounts::Snapshot,
            // Takes effect before the position is read: no later change is missed.
            SocketRequest::Subscribe(_, subscription) => socket.set_subscription(Some(subscription)),
            SocketRequest::Unsubscribe(_) => socket.set_subscription(None),
        }
        self.pending.insert(id);
        self.send_pending(id, Instant::now());
    }
}

impl Hub {
    fn apply(&mut self, committed: &Committed) {
        // A task that matched before the change and doesn't any more is sent too: the client removes it from its page.
        let matching = |subscription: &Subscription| {
            let matches = |row: &Row| subscription.matches(row);
            let changes = committed.changes.iter();
            changes
                .filter(|c| matches(&c.after) || c.before.as_ref().is_some_and(matches))
                .map(|c| c.after.id())
                .collect()
        };
        self.mark_pending(matching, |owner| committed.owners.contains(owner));
    }

    /// Batches were left out: every socket gets its counts, and reads its page of tasks again.
    fn catch_up(&mut self) {
        self.mark_pending(|_| Vec::new(), |_| true);
        for (id, socket) in &mut self.sockets {
            if socket.subscription.is_some() {
                socket.too_many = true;
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

impl Handler<Progressed> for Hub {
    type Result = ();

    fn handle(&mut self, progressed: Progressed, _: &mut Context<Self>) {
        let row = &progressed.row;
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
