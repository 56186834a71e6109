//! In which order, and how fast, the sockets of one thread get their frames. Pure: the caller says what time it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::messages::SocketId;

/// A socket that has got no frames for this time gets its next frames at once.
const IDLE_AFTER: Duration = Duration::from_millis(500);
/// The shortest time between two sets of frames to one socket. People can't read faster changes.
const INTERVAL_MIN: Duration = Duration::from_millis(20);
/// How much of a thread's time one set of frames to a socket that is not idle uses up. A push takes 7 µs of it, so these
/// pushes take 6 % of the thread.
const TIME_PER_PUSH: Duration = Duration::from_micros(125);
/// How much time a thread can have saved: enough for the pushes of one turn.
const SAVED_MAX: Duration = Duration::from_millis(2);

/// When frames were last sent to a socket; `None` if it has got no more than its first ones.
pub(super) type LastSend = Option<Instant>;

/// The sockets of one thread for which frames are pending and that may take them.
///
/// The socket that has waited for the longest time since its last frames is the next one. If it is idle, it is due at once.
/// If it isn't, it is due after `INTERVAL_MIN`, and only as far as the pushes to such sockets take no more than their part of
/// the thread's time. So up to 160 sockets of a thread whose counters change all the time get frames every 20 ms, 1,000 of them
/// every 125 ms, and 4,000 or more every 500 ms: after that time they are idle.
#[derive(Debug, Default)]
pub(super) struct PushQueue {
    waiting: BTreeSet<(LastSend, SocketId)>,
    /// The time of the pushes so far is used up until then. `None` before the first push to a socket that isn't idle.
    used_until: Option<Instant>,
}

/// A socket that is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) socket: SocketId,
    /// Frames to it use up the thread's time for pushes.
    pub(super) uses_time: bool,
}

impl PushQueue {
    /// Adds a socket. `last_send` must stay the same until the socket is taken or removed.
    pub(super) fn add(&mut self, socket: SocketId, last_send: LastSend) {
        self.waiting.insert((last_send, socket));
    }

    pub(super) fn remove(&mut self, socket: SocketId, last_send: LastSend) {
        self.waiting.remove(&(last_send, socket));
    }

    /// Takes the next socket if it is due now.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Due> {
        let (last_send, socket) = *self.waiting.first()?;
        let since = last_send.map(|last_send| now.duration_since(last_send));
        let is_idle = since.is_none_or(|since| since >= IDLE_AFTER);
        let has_time = self.used_until.is_none_or(|used_until| used_until <= now);
        if !is_idle && (!has_time || since < Some(INTERVAL_MIN)) {
            return None;
        }
        self.waiting.pop_first();
        Some(Due { socket, uses_time: !is_idle })
    }

    /// Uses up the time of one push.
    pub(super) fn use_time(&mut self, now: Instant) {
        let earliest = now.checked_sub(SAVED_MAX);
        self.used_until = self.used_until.max(earliest).map(|from| from + TIME_PER_PUSH);
    }

    /// When the next socket is due; `None` if none waits. If the time for pushes is used up, the next sockets are due when there
    /// is time for a whole turn, because a turn costs two wake-ups.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let (last_send, _) = self.waiting.first()?;
        let Some(last_send) = *last_send else { return Some(now) };
        let has_time_at =
            self.used_until.filter(|used_until| *used_until > now).map(|used_until| used_until + SAVED_MAX);
        let paced = has_time_at.max(Some(last_send + INTERVAL_MIN));
        paced.min(Some(last_send + IDLE_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of so many sockets gets frames within so many seconds, if frames are always pending.
    fn sets_per_socket(sockets: u64, seconds: u64) -> Vec<u32> {
        let (mut queue, start) = (PushQueue::default(), Instant::now());
        let mut sets = vec![0; usize::try_from(sockets).unwrap()];
        for socket in 0..sockets {
            queue.add(socket, Some(start));
        }
        let mut now = start;
        while now < start + Duration::from_secs(seconds) {
            let mut taken = Vec::new();
            while let Some(due) = queue.take_due(now) {
                if due.uses_time {
                    queue.use_time(now);
                }
                taken.push(due.socket);
            }
            for socket in taken {
                sets[usize::try_from(socket).unwrap()] += 1;
                queue.add(socket, Some(now));
            }
            let next = queue.next_due(now).unwrap();
            assert!(next > now, "a socket that is due was not taken");
            now = next;
        }
        sets
    }

    #[test]
    fn few_sockets_get_frames_every_20_ms_and_any_number_at_least_every_500_ms() {
        for (sockets, sets) in [(1, 45..=50), (30, 45..=50), (200, 36..=44), (1_000, 7..=9), (10_000, 1..=3)] {
            let counts = sets_per_socket(sockets, 1);
            assert!(counts.iter().all(|count| sets.contains(count)), "{sockets} sockets: {counts:?}");
        }
    }

    #[test]
    fn an_idle_socket_is_due_at_once_also_when_the_others_have_used_up_the_time() {
        let (mut queue, start) = (PushQueue::default(), Instant::now());
        let (now, recently) = (start + IDLE_AFTER, start + Duration::from_millis(480));
        queue.add(1, Some(recently));
        for _ in 0..8_000 {
            queue.use_time(now);
        }
        assert_eq!(queue.take_due(now), None);
        queue.add(2, Some(start));
        queue.add(3, None);
        assert_eq!(queue.next_due(now), Some(now));
        for socket in [3, 2] {
            assert_eq!(queue.take_due(now), Some(Due { socket, uses_time: false }));
        }
        assert_eq!(queue.take_due(now), None);
        assert_eq!(queue.next_due(now), Some(recently + IDLE_AFTER));
    }

    #[test]
    fn the_socket_that_has_waited_for_the_longest_time_is_the_next_one() {
        let (mut queue, start) = (PushQueue::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        for (socket, last_send) in [(1, 30), (2, 10), (3, 20)] {
            queue.add(socket, Some(at(last_send)));
        }
        assert_eq!(queue.next_due(at(30)), Some(at(30)));
        assert_eq!(queue.take_due(at(29)), None);
        queue.remove(3, Some(at(20)));
        for (socket, due) in [(2, 30), (1, 50)] {
            assert_eq!(queue.take_due(at(due)), Some(Due { socket, uses_time: true }));
        }
        assert_eq!(queue.next_due(at(50)), None);
    }
}
