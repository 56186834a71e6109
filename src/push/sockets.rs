//! All open sockets: what is pending for which of them, and who gets frames in the next turn of a thread.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Recipient;

use super::bells::Bells;
use super::frames;
use super::messages::{Closing, SocketId, SocketOpened, SocketRequest, Turn, bytes_of};
use super::shared_frames::SharedFrames;
use super::socket::{ClosingSocket, FrameSource, OpenSocket, PendingCounters};
use super::socket_thread::{Pushes, SocketThread, ThreadId};
use crate::views::{BellCounters, Row};

/// How long a stalled client may take to read what waits and the close frame.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The sockets; see the module.
#[derive(Default)]
pub(super) struct Sockets {
    open: HashMap<SocketId, OpenSocket>,
    /// The stalled sockets to which the close frame was sent.
    closing: Vec<ClosingSocket>,
    bells: Bells,
    /// The sockets with a subscription.
    subscribed: HashSet<SocketId>,
    /// The threads on which the sockets run.
    threads: HashMap<ThreadId, SocketThread>,
    next_thread: ThreadId,
    shared_frames: SharedFrames,
}

impl Sockets {
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// Adds a socket, and sends its first frames: `hello` and the counters.
    pub(super) fn add(&mut self, opened: SocketOpened, hello: String, counters: &BellCounters) {
        let id = opened.socket;
        let bell = self.bells.add(id, opened.bell.clone(), Arc::clone(&opened.viewer));
        let thread = self.enter_thread(&opened.pusher);
        let mut socket = OpenSocket::new(opened, bell, thread, counters.position);
        socket.send(vec![hello.into(), frames::snapshot(counters).into()]);
        self.open.insert(id, socket);
    }

    /// Marks the counters as pending for the sockets that show one of these owners.
    pub(super) fn mark_counters(&mut self, owners: &HashSet<Arc<str>>) {
        let outdated = self.bells.take_outdated(owners);
        self.mark_as_outdated(outdated);
    }

    /// Marks everything as pending: every socket gets its counters, and every client with a subscription must request its page
    /// of tasks again.
    pub(super) fn mark_everything(&mut self) {
        let all = self.bells.take_all();
        self.mark_as_outdated(all);
        for id in &self.subscribed {
            if let Some(socket) = self.open.get_mut(id) {
                socket.too_many_tasks = true;
                Self::add_to_queue(&mut self.threads, *id, socket);
            }
        }
    }

    /// Marks the counters of these sockets as pending. They were up to date before.
    fn mark_as_outdated(&mut self, outdated: Vec<SocketId>) {
        for id in outdated {
            let Some(socket) = self.open.get_mut(&id) else { continue };
            if socket.pending_counters == PendingCounters::None {
                socket.pending_counters = PendingCounters::Update;
            }
            Self::add_to_queue(&mut self.threads, id, socket);
        }
    }

    /// Marks changed tasks as pending for each socket whose subscription includes them. Each change is a task before and after it.
    pub(super) fn mark_tasks<'a>(&mut self, changes: &(impl Iterator<Item = (Option<&'a Row>, &'a Row)> + Clone)) {
        for id in &self.subscribed {
            let Some(socket) = self.open.get_mut(id) else { continue };
            socket.add_tasks(changes.clone());
            if socket.has_pending_tasks() {
                Self::add_to_queue(&mut self.threads, *id, socket);
            }
        }
    }

    /// Marks a beat as pending for every socket.
    pub(super) fn mark_beats(&mut self) {
        self.shared_frames.clear();
        for (id, socket) in &mut self.open {
            socket.pending_beat = true;
            Self::add_to_queue(&mut self.threads, *id, socket);
        }
    }

    /// Says that a running task has new progress. It has no position.
    pub(super) fn note_progress(&mut self) {
        self.shared_frames.clear();
    }

    /// Notes that frames are pending for a socket.
    fn add_to_queue(threads: &mut HashMap<ThreadId, SocketThread>, id: SocketId, socket: &OpenSocket) {
        if let Some(thread) = threads.get_mut(&socket.thread) {
            thread.add(id, socket.last_send);
        }
    }

    /// The threads on which the sockets run.
    pub(super) fn threads(&self) -> Vec<ThreadId> {
        self.threads.keys().copied().collect()
    }

    pub(super) fn thread(&mut self, id: ThreadId) -> Option<&mut SocketThread> {
        self.threads.get_mut(&id)
    }

    /// Writes the frames of the next turn of this thread.
    pub(super) fn take_pushes(&mut self, id: ThreadId, at: Instant, from: &FrameSource<'_>) -> Pushes {
        let Some(thread) = self.threads.get_mut(&id) else { return Pushes::new() };
        self.shared_frames.clear_old(from.views.position(), at);
        let (mut pushes, mut bytes) = (Pushes::new(), 0);
        while !SocketThread::is_turn_full(&pushes, bytes) {
            let Some(due) = thread.take_due(at) else { break };
            let Some(socket) = self.open.get_mut(&due.socket) else { continue };
            if !socket.has_taken_all() {
                thread.block(due.socket);
                continue;
            }
            let has_changes = socket.has_changes();
            let frames = socket.take_frames(from, &self.bells, &mut self.shared_frames);
            self.bells.set_up_to_date(due.socket, socket.bell);
            if frames.is_empty() {
                continue;
            }
            if has_changes {
                socket.last_send = Some(at);
                thread.use_time(&due, at);
            }
            bytes += bytes_of(&frames);
            pushes.push(socket.push(frames));
        }
        pushes
    }

    /// Stores a request of a client. Returns its socket, which is to be answered; `None` if it is closed.
    pub(super) fn store(&mut self, request: SocketRequest) -> Option<SocketId> {
        let (SocketRequest::Resync(id) | SocketRequest::Subscribe(id, _) | SocketRequest::Unsubscribe(id)) = request;
        let socket = self.open.get_mut(&id)?;
        match request {
            SocketRequest::Resync(_) => socket.pending_counters = PendingCounters::Snapshot,
            SocketRequest::Subscribe(_, subscription) => {
                socket.set_subscription(Some(subscription));
                self.subscribed.insert(id);
            }
            SocketRequest::Unsubscribe(_) => {
                socket.set_subscription(None);
                self.subscribed.remove(&id);
            }
        }
        Some(id)
    }

    /// Answers a request: sends what is pending for this socket, at once. If too many bytes wait for its connection, the answer
    /// remains pending.
    pub(super) fn answer(&mut self, id: SocketId, at: Instant, from: &FrameSource<'_>) {
        let Some(socket) = self.open.get_mut(&id) else { return };
        if !socket.takes_answers() {
            Self::add_to_queue(&mut self.threads, id, socket);
            return;
        }
        if let Some(thread) = self.threads.get_mut(&socket.thread) {
            thread.remove(id, socket.last_send);
        }
        self.shared_frames.clear_old(from.views.position(), at);
        let frames = socket.take_frames(from, &self.bells, &mut self.shared_frames);
        self.bells.set_up_to_date(id, socket.bell);
        socket.send(frames);
    }

    /// The thread of this pusher, which one more socket runs on.
    fn enter_thread(&mut self, pusher: &Recipient<Turn>) -> ThreadId {
        if let Some((id, thread)) = self.threads.iter_mut().find(|(_, thread)| thread.has_pusher(pusher)) {
            thread.open_sockets += 1;
            return *id;
        }
        let id = self.next_thread;
        self.next_thread += 1;
        self.threads.insert(id, SocketThread::new(pusher.clone()));
        id
    }

    /// Removes a socket from everything that refers to it.
    pub(super) fn remove(&mut self, id: SocketId) -> Option<OpenSocket> {
        let socket = self.open.remove(&id)?;
        self.subscribed.remove(&id);
        self.bells.remove(id, socket.bell);
        if let Some(thread) = self.threads.get_mut(&socket.thread) {
            thread.remove(id, socket.last_send);
            thread.open_sockets -= 1;
            if thread.open_sockets == 0 {
                self.threads.remove(&socket.thread);
            }
        }
        Some(socket)
    }

    /// Adds the blocked sockets whose connections have taken their frames to the queues again.
    pub(super) fn unblock(&mut self) {
        for thread in self.threads.values_mut() {
            thread.unblock(|id| {
                self.open.get(&id).filter(|socket| socket.has_taken_all()).map(|socket| socket.last_send)
            });
        }
    }

    /// Closes the socket if it is open. If its client reads nothing, its connection is ended later.
    pub(super) fn close(&mut self, id: SocketId, closing: Closing) {
        let socket = self.remove(id);
        self.closing.extend(socket.map(|socket| socket.close(closing)));
    }

    /// Closes the sockets whose clients have read nothing for `stall_timeout`, and ends the connections of those that were closed
    /// a while ago. Most of these connections have ended by themselves by then.
    pub(super) fn close_stalled(&mut self, stall_timeout: Duration) {
        let now = Instant::now();
        let mut stalled = Vec::new();
        for (id, socket) in &mut self.open {
            if socket.stalled_for(now) >= stall_timeout {
                stalled.push(*id);
            }
        }
        for id in stalled {
            tracing::info!(socket = id, "a websocket is closed with 1013: its client doesn't read");
            self.close(id, Closing::Stalled);
        }
        for socket in self.closing.extract_if(.., |socket| socket.quiet_for(now) >= ABORT_TIMEOUT) {
            socket.abort();
        }
    }

    /// Closes all sockets because the server ends.
    pub(super) fn close_all(&mut self) {
        for id in self.open.keys().copied().collect::<Vec<_>>() {
            if let Some(socket) = self.remove(id) {
                socket.close(Closing::ServerEnds);
            }
        }
    }
}
