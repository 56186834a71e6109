//! Pushes: what changed, to every socket that asked, after it is durable and in the views.
//!
//! A socket gets the newest counts, not all of them: at most 20 sets of frames a second. What it is owed is kept as a
//! mark and a bounded set of ids, so a slow reader costs no more memory than a quick one. Every counters frame names the
//! position of the one before it, so that a gap can't go unseen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, Recipient};
use uuid::Uuid;

use crate::store::now;
use crate::task::{Position, TaskId};
use crate::views::{Filter, Row};

use super::frames;
use crate::dispatch::capacity::Capacity;
use crate::projection::projector::Stop;
use crate::projection::projector::{Committed, Progressed};
use crate::projection::reader::ViewsReader;

/// Frames go to one socket at most this often: a push costs 7 µs, and nobody reads faster (DESIGN, decision 8).
const PACE: Duration = Duration::from_millis(50);
/// A socket that had no room is tried again this often: what it is owed is written out anew each time.
const PACE_FULL: Duration = Duration::from_millis(500);
/// Wishes of sockets that wait at most; beyond them a socket is told to ask later.
const MAILBOX: usize = 4096;
/// A sign of life goes to each socket this often; the contract says at least every 15 s.
const BEAT: Duration = Duration::from_secs(10);
/// A reader that has taken nothing for so long is let go.
const STALLED: Duration = Duration::from_secs(30);
/// More changed tasks than this and the socket is told to read the page again.
const TASKS_MAX: usize = 200;
/// Close code for a reader that is too slow: try again later.
const TRY_AGAIN: u16 = 1013;

/// A socket, for as long as it is open.
pub type SocketId = u64;

/// To a socket.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub enum Push {
    /// Text frames, in this order.
    Frames(Vec<String>),
    /// Close with this code.
    Close(u16),
}

/// A socket opens.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    /// Which.
    pub socket: SocketId,
    /// Whose bell it shows.
    pub owner: Arc<str>,
    /// Where frames go; a bounded mailbox.
    pub to: Recipient<Push>,
}

/// A socket is closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// Which.
    pub socket: SocketId,
}

/// What a socket wants to hear of tasks, beside the counters.
#[derive(Clone, Debug)]
pub enum Subscription {
    /// Those that match.
    Matching(Box<Filter>),
    /// These.
    Ids(HashSet<TaskId>),
}

impl Subscription {
    fn wants(&self, row: &Row) -> bool {
        match self {
            Self::Matching(filter) => filter.matches(row),
            Self::Ids(ids) => ids.contains(&row.id()),
        }
    }
}

/// A socket asks.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Ask {
    /// Tell me of these tasks from now on; replaces what was asked before.
    Subscribe(SocketId, Subscription),
    /// No tasks any more.
    Unsubscribe(SocketId),
    /// The counts as they are, whatever I have.
    Resync(SocketId),
}

/// Which counts a socket is owed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Nothing,
    /// Its owner's counters may have changed since it was told.
    Newer,
    /// It asked for them, whatever it was told.
    Snapshot,
}

struct Socket {
    owner: Arc<str>,
    to: Recipient<Push>,
    interest: Option<Subscription>,
    /// It asked, and has not been told yet that its wish is in force.
    subscribed: bool,
    /// Position of the last snapshot or counters frame.
    told: Position,
    /// The counts that it is owed.
    counts: Counts,
    /// Tasks that it is owed.
    tasks: HashSet<TaskId>,
    /// More of them than can be listed.
    too_many: bool,
    last: Instant,
    /// Since when its mailbox has been full.
    full_since: Option<Instant>,
}

/// The hub; see the module.
pub struct Hub {
    read: ViewsReader,
    capacity: Arc<Capacity>,
    epoch: Uuid,
    sockets: HashMap<SocketId, Socket>,
    /// Sockets that are owed something.
    owed: HashSet<SocketId>,
}

impl Hub {
    /// A hub without sockets.
    #[must_use]
    pub fn new(read: ViewsReader, capacity: Arc<Capacity>, epoch: Uuid) -> Self {
        Self { read, capacity, epoch, sockets: HashMap::new(), owed: HashSet::new() }
    }

    /// Marks what each socket is owed: a task is sent if it matched before or matches after.
    fn mark(&mut self, wants: impl Fn(&Subscription) -> Vec<TaskId>, owners: &[Arc<str>]) {
        for (id, socket) in &mut self.sockets {
            if socket.counts == Counts::Nothing && owners.contains(&socket.owner) {
                socket.counts = Counts::Newer;
            }
            if let Some(interest) = socket.interest.as_ref().filter(|_| !socket.too_many) {
                socket.tasks.extend(wants(interest));
                socket.too_many = socket.tasks.len() > TASKS_MAX;
            }
            if socket.counts != Counts::Nothing || socket.too_many || !socket.tasks.is_empty() {
                self.owed.insert(*id);
            }
        }
    }

    /// Pays every socket whose turn has come.
    fn flush(&mut self) {
        let now = Instant::now();
        let due: Vec<SocketId> = self.owed.iter().copied().collect();
        for id in due {
            let pace = |socket: &Socket| if socket.full_since.is_some() { PACE_FULL } else { PACE };
            if self.sockets.get(&id).is_none_or(|socket| now.duration_since(socket.last) >= pace(socket)) {
                self.pay(id, now);
            }
        }
    }

    fn pay(&mut self, id: SocketId, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            self.owed.remove(&id);
            return;
        };
        let mut frames = Vec::with_capacity(2);
        let views = self.read.views();
        let position = views.position();
        if socket.subscribed {
            frames.push(frames::subscribed(position));
        }
        match socket.counts {
            Counts::Newer if position > socket.told => {
                frames.push(frames::counters(socket.told, &views.counters(&socket.owner)));
            }
            Counts::Snapshot => frames.push(frames::snapshot(&views.counters(&socket.owner))),
            Counts::Nothing | Counts::Newer => {}
        }
        if socket.too_many {
            frames.push(frames::tasks_changed(position));
        } else if !socket.tasks.is_empty() {
            frames.push(frames::tasks(&views, &socket.tasks, &self.capacity));
        }
        drop(views);
        if frames.is_empty() || socket.send(frames, now) {
            if socket.counts != Counts::Nothing {
                socket.told = position;
            }
            socket.counts = Counts::Nothing;
            socket.subscribed = false;
            socket.too_many = false;
            socket.tasks.clear();
            self.owed.remove(&id);
        }
    }

    fn beat(&mut self) {
        let frame = frames::beat(self.read.position(), now());
        let at = Instant::now();
        for socket in self.sockets.values_mut() {
            socket.send(vec![frame.clone()], at);
        }
    }

    /// Lets go of readers that have stalled. The close frame waits behind what they have not read; the kernel ends the
    /// connection of those who never will (see the edge's TCP settings).
    fn let_go(&mut self) {
        let now = Instant::now();
        self.sockets.retain(|_, socket| {
            let stalled = socket.full_since.is_some_and(|since| now.duration_since(since) >= STALLED);
            if stalled {
                socket.to.do_send(Push::Close(TRY_AGAIN));
            }
            !stalled
        });
    }
}

impl Socket {
    fn wish(&mut self, interest: Option<Subscription>) {
        self.subscribed = interest.is_some();
        self.interest = interest;
        self.tasks.clear();
        self.too_many = false;
    }

    /// Hands the frames over if the socket has room; remembers since when it has not.
    fn send(&mut self, frames: Vec<String>, now: Instant) -> bool {
        let sent = self.to.try_send(Push::Frames(frames)).is_ok();
        self.last = now;
        self.full_since = if sent { None } else { self.full_since.or(Some(now)) };
        sent
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(MAILBOX);
        ctx.run_interval(PACE, |this, _| this.flush());
        ctx.run_interval(BEAT, |this, _| this.beat());
        ctx.run_interval(Duration::from_secs(1), |this, _| this.let_go());
    }
}

impl Handler<Join> for Hub {
    type Result = ();

    fn handle(&mut self, join: Join, _: &mut Context<Self>) {
        let mut socket = Socket {
            owner: join.owner,
            to: join.to,
            interest: None,
            subscribed: false,
            told: Position(0),
            counts: Counts::Nothing,
            tasks: HashSet::new(),
            too_many: false,
            last: Instant::now(),
            full_since: None,
        };
        let counters = self.read.views().counters(&socket.owner);
        socket.told = counters.position;
        let greeting = vec![frames::hello(self.epoch, counters.position, now()), frames::snapshot(&counters)];
        // The mailbox of a socket that has just opened has room.
        socket.send(greeting, Instant::now());
        self.sockets.insert(join.socket, socket);
    }
}

impl Handler<Leave> for Hub {
    type Result = ();

    fn handle(&mut self, leave: Leave, _: &mut Context<Self>) {
        self.sockets.remove(&leave.socket);
        self.owed.remove(&leave.socket);
    }
}

impl Handler<Ask> for Hub {
    type Result = ();

    fn handle(&mut self, ask: Ask, _: &mut Context<Self>) {
        let (Ask::Resync(id) | Ask::Subscribe(id, _) | Ask::Unsubscribe(id)) = ask;
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match ask {
            // A snapshot that can't be taken now stays owed: the client waits for it.
            Ask::Resync(_) => socket.counts = Counts::Snapshot,
            // The wish is in force before the position is said: nothing after it can be missed.
            Ask::Subscribe(_, interest) => socket.wish(Some(interest)),
            Ask::Unsubscribe(_) => socket.wish(None),
        }
        self.owed.insert(id);
        self.pay(id, Instant::now());
    }
}

impl Handler<Committed> for Hub {
    type Result = ();

    fn handle(&mut self, committed: Committed, _: &mut Context<Self>) {
        let wants = |interest: &Subscription| {
            let wanted = |row: &Row| interest.wants(row);
            let changes = committed.changes.iter();
            changes
                .filter(|c| wanted(&c.after) || c.before.as_ref().is_some_and(wanted))
                .map(|c| c.after.id())
                .collect()
        };
        self.mark(wants, &committed.owners);
        self.flush();
    }
}

impl Handler<Progressed> for Hub {
    type Result = ();

    fn handle(&mut self, progressed: Progressed, _: &mut Context<Self>) {
        let row = &progressed.row;
        self.mark(|interest| if interest.wants(row) { vec![row.id()] } else { Vec::new() }, &[]);
        self.flush();
    }
}

impl Handler<Stop> for Hub {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
