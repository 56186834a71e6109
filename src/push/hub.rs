//! The hub: it sends changes to the open sockets, after they are durable and the views show them.
//!
//! For each socket the hub stores what is pending: whether the counters have changed, and a bounded set of ids of changed
//! tasks. It writes the frames from the views when it sends them. So a socket gets the newest counters and not each change of
//! them. A slow client needs no more memory than a fast one. Each counters frame contains the position of the counters that
//! were sent before it, so a client notices if a frame is missing.
//!
//! How soon changes are sent: to an idle socket at once; to the others after 20 ms, and after up to 500 ms if the frames of many
//! sockets take too much time ([`push_queue`](super::push_queue)). The threads on which the sockets run also handle requests, so
//! each gets few frames in one turn ([`socket_thread`](super::socket_thread)). The responses to the client's requests
//! (`subscribe`, `unsubscribe`, `resync`) don't wait for that.
//!
//! If a client reads slowly:
//!
//! - **Normal**: its connection takes every frame at once.
//! - **Blocked**: the connection has not taken the last frames yet. The hub sends no more. What is pending remains pending, and
//!   later changes are added to it. The hub doesn't wait, so other sockets are not delayed.
//! - **Room again**: the connection has taken all frames. The client gets the newest counters, with the position of the last
//!   counters that were sent to it as `previous`. It also gets the changed tasks, or `tasks_changed` if they are too many.
//! - **Stalled**: the connection takes nothing for the stall timeout. Then the hub sends a close frame with code 1013 behind the
//!   frames that wait. If the connection still takes nothing for 5 s, the hub ends it.
//!
//! When a client subscribes, the hub first stores the subscription and then reads the position from the views. So the client
//! gets every change after that position.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::oneshot;

use super::frames;
use super::messages::{CloseAll, Closing, CredentialEnded, SocketClosed, SocketOpened, SocketRequest, Turn};
use super::open_sockets::OpenSockets;
use super::socket::FrameSource;
use super::socket_thread::ThreadId;
use super::sockets::Sockets;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::projection::freshness::Freshness;
use crate::projection::projector::ProgressShown;
use crate::projection::reader::ViewsReader;
use crate::projection::stop::Stop;
use crate::projection::subscribers::{Committed, Update};
use crate::store::{EventStore, now};
use crate::task::Timestamp;

/// The maximum number of requests of sockets in the hub's mailbox. Further requests are refused as `busy`.
const MAILBOX_CAPACITY: usize = 4096;
/// The time between two checks whether the connections of blocked sockets have taken their frames.
const BLOCKED_INTERVAL: Duration = Duration::from_millis(50);
/// The time between two `beat` frames. Clients may rely on at least one every 15 s.
const BEAT_INTERVAL: Duration = Duration::from_secs(10);
/// The time between two checks of the freshness of the views, and between two checks for stalled sockets.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The actor; see the module.
pub struct Hub {
    reader: ViewsReader,
    queue_and_offers: Arc<QueueAndOffers>,
    /// The log. Its id is the epoch of the frames, so a new log has another epoch. On a cluster the epoch is nil until the cluster has answered for the first time.
    store: EventStore,
    freshness: Freshness,
    /// The `stale_since` that was last sent to all sockets.
    sent_stale_since: Option<Timestamp>,
    sockets: Sockets,
    /// After this time without reading a client is stalled.
    stall_timeout: Duration,
    /// The server ends: no socket stays open.
    is_ending: bool,
    open_sockets: OpenSockets,
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
            sockets: Sockets::default(),
            stall_timeout,
            is_ending: false,
            open_sockets,
        }
    }

    /// Every socket gets a beat, with the present `stale_since`.
    fn mark_beats(&mut self) {
        self.sent_stale_since = self.freshness.stale_since();
        self.sockets.mark_beats();
    }

    /// If `stale_since` has changed, all sockets get a beat now instead of at its regular time.
    fn mark_beats_if_stale_changed(&mut self) {
        if self.freshness.stale_since() != self.sent_stale_since {
            self.mark_beats();
        }
    }

    /// Begins the next turn of each thread that is ready for one.
    fn start_turns(&mut self, ctx: &mut Context<Self>) {
        for id in self.sockets.threads() {
            self.start_turn(id, ctx);
        }
    }

    /// Begins the next turn of this thread, unless one is running. If no socket is due, a timer begins it later.
    fn start_turn(&mut self, id: ThreadId, ctx: &mut Context<Self>) {
        let at = Instant::now();
        if !self.sockets.thread(id).is_some_and(|thread| thread.can_begin_turn(at)) {
            self.set_timer(id, at, ctx);
            return;
        }
        let views = self.reader.views();
        let from = FrameSource {
            views: &views,
            queue_and_offers: &self.queue_and_offers,
            beat: (now(), self.sent_stale_since),
        };
        let pushes = self.sockets.take_pushes(id, at, &from);
        drop(views);
        if pushes.is_empty() {
            self.set_timer(id, at, ctx);
            return;
        }
        let (ended, turn) = oneshot::channel();
        if let Some(thread) = self.sockets.thread(id) {
            thread.is_turn_running = true;
            thread.send(Turn { pushes, ended: Some(ended) });
        }
        // An error says that the thread has ended. Then its sockets have ended too.
        ctx.spawn(turn.into_actor(self).map(move |_, this, ctx| {
            if let Some(thread) = this.sockets.thread(id) {
                thread.is_turn_running = false;
            }
            this.start_turn(id, ctx);
        }));
    }

    /// Sets the timer for the next turn of this thread. While a turn is running none is needed.
    fn set_timer(&mut self, id: ThreadId, at: Instant, ctx: &mut Context<Self>) {
        let Some(thread) = self.sockets.thread(id).filter(|thread| !thread.is_turn_running) else { return };
        let Some(due) = thread.next_due(at) else { return };
        if let Some((_, later)) = thread.timer.take_if(|(planned, _)| *planned > due) {
            ctx.cancel_future(later);
        }
        thread.timer.get_or_insert_with(|| {
            let timer = ctx.run_later(due.saturating_duration_since(at), move |this, ctx| {
                if let Some(thread) = this.sockets.thread(id) {
                    thread.timer = None;
                }
                this.start_turn(id, ctx);
            });
            (due, timer)
        });
    }

    /// Closes all sockets because the server ends.
    fn close_all(&mut self) {
        self.is_ending = true;
        self.sockets.close_all();
        self.open_sockets.set(0);
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
        ctx.run_interval(BLOCKED_INTERVAL, |this, ctx| {
            this.sockets.unblock();
            this.start_turns(ctx);
        });
        ctx.run_interval(BEAT_INTERVAL, |this, ctx| {
            this.mark_beats();
            this.start_turns(ctx);
        });
        ctx.run_interval(CHECK_INTERVAL, |this, ctx| {
            this.mark_beats_if_stale_changed();
            this.sockets.close_stalled(this.stall_timeout);
            this.open_sockets.set(this.sockets.count());
            this.start_turns(ctx);
        });
    }
}

impl Handler<SocketOpened> for Hub {
    type Result = ();

    fn handle(&mut self, opened: SocketOpened, ctx: &mut Context<Self>) {
        if self.is_ending {
            opened.close(Closing::ServerEnds);
            return;
        }
        // The number of open sockets is increased before the views are read. So the projector sends the hub every event that
        // it applies after this read.
        self.open_sockets.set(self.sockets.count() + 1);
        let counters = self.reader.views().bell(&opened.bell, &opened.viewer);
        // `sent_stale_since` is one value for all sockets, so the other sockets must have the present value before this one joins.
        self.mark_beats_if_stale_changed();
        let hello = frames::hello(self.store.epoch(), counters.position, now(), self.sent_stale_since);
        self.sockets.add(opened, hello, &counters);
        self.start_turns(ctx);
    }
}

impl Handler<SocketClosed> for Hub {
    type Result = ();

    fn handle(&mut self, closed: SocketClosed, _: &mut Context<Self>) {
        self.sockets.remove(closed.socket);
        self.open_sockets.set(self.sockets.count());
    }
}

impl Handler<CredentialEnded> for Hub {
    type Result = ();

    fn handle(&mut self, ended: CredentialEnded, _: &mut Context<Self>) {
        self.sockets.close(ended.socket, Closing::CredentialEnded);
        self.open_sockets.set(self.sockets.count());
    }
}

impl Handler<SocketRequest> for Hub {
    type Result = ();

    fn handle(&mut self, request: SocketRequest, ctx: &mut Context<Self>) {
        // A subscription is stored before the position is read from the views. So no later change is missed.
        let Some(id) = self.sockets.store(request) else { return };
        let views = self.reader.views();
        let from = FrameSource {
            views: &views,
            queue_and_offers: &self.queue_and_offers,
            beat: (now(), self.sent_stale_since),
        };
        self.sockets.answer(id, Instant::now(), &from);
        drop(views);
        self.start_turns(ctx);
    }
}

impl Hub {
    fn apply(&mut self, committed: &Committed) {
        self.sockets.mark_counters(&committed.owners);
        self.sockets.mark_tasks(&committed.changes.iter().map(|change| (change.before.as_ref(), &change.after)));
    }
}

impl Handler<Update> for Hub {
    type Result = ();

    fn handle(&mut self, update: Update, ctx: &mut Context<Self>) {
        match update {
            Update::Committed(committed) => self.apply(&committed),
            // Events are missing, so everything may have changed.
            Update::Missed => self.sockets.mark_everything(),
        }
        self.start_turns(ctx);
    }
}

impl Handler<ProgressShown> for Hub {
    type Result = ();

    fn handle(&mut self, shown: ProgressShown, ctx: &mut Context<Self>) {
        self.sockets.note_progress();
        self.sockets.mark_tasks(&std::iter::once((None, &shown.row)));
        self.start_turns(ctx);
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
