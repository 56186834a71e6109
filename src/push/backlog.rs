//! The frames of a socket that its connection has not taken yet, and for how long it has taken none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many bytes of a socket's frames wait for its connection. The hub adds the frames that it sends. The socket removes
/// them when the HTTP server's write buffer has taken them, which happens only while the client reads. Clones share the count.
///
/// A piece is what the HTTP server takes at a time: at most 16 KiB of encoded frames.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    /// How many pieces the connection has taken so far.
    pieces: AtomicU64,
}

impl Backlog {
    pub(super) fn add(&self, bytes: usize) {
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Says that the connection has taken the last piece of frames with this many bytes.
    pub fn remove(&self, bytes: usize) {
        self.0.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// Says that the connection has taken a piece of a frame, or of several frames.
    pub fn note_piece(&self) {
        self.0.pieces.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Acquire)
    }

    fn pieces(&self) -> u64 {
        self.0.pieces.load(Ordering::Acquire)
    }
}

/// Measures for how long a connection has taken nothing.
#[derive(Debug, Default)]
pub(super) struct StallClock {
    /// When the present pause was first seen, and how many pieces the connection had taken by then.
    since: Option<(Instant, u64)>,
}

impl StallClock {
    /// For how long the connection has taken nothing although frames wait for it; zero if none wait. The time counts from the
    /// first call that saw no new piece. So it is as exact as the calls are frequent.
    pub(super) fn stalled_for(&mut self, backlog: &Backlog, now: Instant) -> Duration {
        if backlog.bytes() == 0 {
            self.since = None;
            return Duration::ZERO;
        }
        self.quiet_for(backlog, now)
    }

    /// For how long the connection has taken nothing, whether or not frames wait for it.
    pub(super) fn quiet_for(&mut self, backlog: &Backlog, now: Instant) -> Duration {
        let pieces = backlog.pieces();
        let since = self.since.filter(|(_, before)| *before == pieces).map_or(now, |(since, _)| since);
        self.since = Some((since, pieces));
        now.duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_stall_begins_when_frames_wait_and_ends_with_each_piece_that_the_connection_takes() {
        let (backlog, mut clock, start) = (Backlog::default(), StallClock::default(), Instant::now());
        assert_eq!(clock.stalled_for(&backlog, start), Duration::ZERO);
        backlog.add(100);
        assert_eq!(clock.stalled_for(&backlog, start + SECOND), Duration::ZERO);
        backlog.add(50);
        assert_eq!(clock.stalled_for(&backlog, start + 30 * SECOND), 29 * SECOND);
        backlog.note_piece();
        assert_eq!(clock.stalled_for(&backlog, start + 31 * SECOND), Duration::ZERO);
        assert_eq!(clock.stalled_for(&backlog, start + 33 * SECOND), 2 * SECOND);
        backlog.remove(150);
        assert_eq!(clock.stalled_for(&backlog, start + 99 * SECOND), Duration::ZERO);
        assert_eq!(clock.quiet_for(&backlog, start + 100 * SECOND), Duration::ZERO);
        assert_eq!(clock.quiet_for(&backlog, start + 105 * SECOND), 5 * SECOND);
    }
}
