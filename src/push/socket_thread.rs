//! A thread on which sockets run, and which of them get frames next.
//!
//! The hub sends frames to a thread in turns. A turn has few frames, and the next one begins only when the thread has done its
//! other work: it also handles requests, and 1,000 frames at once would delay these by 10 ms. The frames of a turn are written
//! when the turn begins, so they are the newest however long the sockets had to wait for it.

use std::collections::HashSet;
use std::time::Instant;

use actix::{Recipient, SpawnHandle};

use super::messages::{Push, SocketId, Turn};
use super::push_queue::{Due, LastSend, PushQueue};

/// Identifies a thread in the hub.
pub(super) type ThreadId = usize;

/// How many sockets get frames in one turn.
const TURN_MAX: usize = 16;
/// After so many bytes of frames a turn ends too.
const TURN_BYTES_MAX: usize = 64 * 1024;

/// The sockets that get frames in a turn, and the frames.
pub(super) type Pushes = Vec<(Recipient<Push>, Push)>;

/// The thread; see the module.
pub(super) struct SocketThread {
    pusher: Recipient<Turn>,
    /// How many open sockets run on it.
    pub(super) open_sockets: usize,
    queue: PushQueue,
    /// Frames are pending for these sockets too, but their connections have not taken the last ones yet.
    blocked: HashSet<SocketId>,
    /// The frames of a turn were sent, and the thread has not done its other work since.
    pub(super) is_turn_running: bool,
    /// When the hub looks at the queue again.
    pub(super) timer: Option<(Instant, SpawnHandle)>,
}

impl SocketThread {
    /// A thread with one socket.
    pub(super) fn new(pusher: Recipient<Turn>) -> Self {
        let (queue, blocked) = (PushQueue::default(), HashSet::new());
        Self { pusher, open_sockets: 1, queue, blocked, is_turn_running: false, timer: None }
    }

    pub(super) fn has_pusher(&self, pusher: &Recipient<Turn>) -> bool {
        self.pusher == *pusher
    }

    /// Adds a socket for which frames are pending. If it waits already, nothing changes.
    pub(super) fn add(&mut self, socket: SocketId, last_send: LastSend) {
        if !self.blocked.contains(&socket) {
            self.queue.add(socket, last_send);
        }
    }

    /// Removes a socket that is closed or for which no frames are pending any more.
    pub(super) fn remove(&mut self, socket: SocketId, last_send: LastSend) {
        self.queue.remove(socket, last_send);
        self.blocked.remove(&socket);
    }

    /// Takes the next socket if it is due now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        self.queue.take_due(now)
    }

    /// Says that a socket which was taken gets frames.
    pub(super) fn use_time(&mut self, due: &Due, now: Instant) {
        if due.uses_time {
            self.queue.use_time(now);
        }
    }

    /// Whether a turn may begin now: none is running, and a socket is due.
    pub(super) fn can_begin_turn(&self, now: Instant) -> bool {
        !self.is_turn_running && self.next_due(now).is_some_and(|due| due <= now)
    }

    /// Whether these pushes with so many bytes are enough for a turn.
    pub(super) fn is_turn_full(pushes: &Pushes, bytes: usize) -> bool {
        pushes.len() >= TURN_MAX || bytes >= TURN_BYTES_MAX
    }

    /// When the next socket is due; `None` if none waits.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        self.queue.next_due(now)
    }

    /// Keeps a socket until its connection has taken its last frames.
    pub(super) fn block(&mut self, socket: SocketId) {
        self.blocked.insert(socket);
    }

    /// Adds the blocked sockets again for which `last_send` is known: their connections take frames now.
    pub(super) fn unblock(&mut self, last_send: impl Fn(SocketId) -> Option<LastSend>) {
        for socket in self.blocked.iter().copied().collect::<Vec<_>>() {
            if let Some(last_send) = last_send(socket) {
                self.blocked.remove(&socket);
                self.queue.add(socket, last_send);
            }
        }
    }

    /// Sends the pushes of a turn to the thread.
    pub(super) fn send(&self, turn: Turn) {
        self.pusher.do_send(turn);
    }
}
