//! The open connections of a server. There are fewer of them than the process may have open files, so that the log and the
//! handlers can always open theirs. When all places are taken, the server still tells a monitor that it lives.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use tokio::time::Instant;

/// Connections beyond the limit that are accepted for a moment: for probes, and to tell other clients that the server is busy.
pub const RESERVE: usize = 16;

/// The connection serves a request.
const SERVING: u8 = 0;
/// The connection waits for the head of a request.
const WAITING: u8 = 1;
/// The connection is to be closed, because another client needs its place.
const CUT: u8 = 2;

/// Counts the open connections. A clone counts the same ones.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    places: BTreeMap<u64, Arc<Place>>,
}

#[derive(Debug, Default)]
struct Place {
    state: AtomicU8,
    stream: AtomicWaker,
}

/// The place of an open connection. It is free again when this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    connections: Connections,
    number: u64,
    place: Arc<Place>,
    opened: Instant,
    /// The connection is one of the reserve.
    is_beyond_limit: bool,
}

impl Connections {
    /// At most `limit` connections, and a small reserve.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit: limit.max(1), open: Mutex::default() }))
    }

    /// How many connections there may be for each limit of open files, of which `used` are open for other purposes.
    #[must_use]
    pub fn limit_within(open_files: usize, used: usize) -> usize {
        // For the log's files, for files that handlers copy, and for connections that the server has not counted yet.
        let spare = RESERVE + (open_files / 16).clamp(32, 512);
        open_files.saturating_sub(used + spare)
    }

    /// Takes a place for a new connection. Where all are taken, an idle connection is closed for it. None where the reserve is
    /// used up too.
    #[must_use]
    pub fn open(&self) -> Option<OpenConnection> {
        let mut open = self.lock();
        let is_beyond_limit = open.places.len() >= self.0.limit;
        if is_beyond_limit {
            cut_one(&open.places);
            if open.places.len() >= self.0.limit.saturating_add(RESERVE) {
                return None;
            }
        }
        let place = Arc::new(Place { state: AtomicU8::new(WAITING), stream: AtomicWaker::new() });
        let number = open.next;
        open.next += 1;
        open.places.insert(number, place.clone());
        Some(OpenConnection { connections: self.clone(), number, place, opened: Instant::now(), is_beyond_limit })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // The map is whole whenever the lock is released.
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes the oldest connection that serves no request.
fn cut_one(places: &BTreeMap<u64, Arc<Place>>) {
    let exchange =
        |place: &Arc<Place>| place.state.compare_exchange(WAITING, CUT, Ordering::AcqRel, Ordering::Acquire).is_ok();
    if let Some(place) = places.values().find(|place| exchange(place)) {
        place.stream.wake();
    }
}

impl OpenConnection {
    /// Whether the server has more connections than it serves: this one is for a probe.
    #[must_use]
    pub fn is_beyond_limit(&self) -> bool {
        self.is_beyond_limit
    }

    /// When the server has accepted the connection.
    #[must_use]
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// The connection waits for a request; false if it is to be closed instead.
    #[must_use]
    pub fn wait(&self, stream: &Waker) -> bool {
        self.place.stream.register(stream);
        let before = self.place.state.compare_exchange(SERVING, WAITING, Ordering::AcqRel, Ordering::Acquire);
        before != Err(CUT)
    }

    /// The connection serves a request; false if it is to be closed instead.
    #[must_use]
    pub fn serve(&self) -> bool {
        let before = self.place.state.compare_exchange(WAITING, SERVING, Ordering::AcqRel, Ordering::Acquire);
        before != Err(CUT)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_connection_takes_the_place_of_one_that_waits() {
        let connections = Connections::new(2);
        let first = connections.open().unwrap();
        let second = connections.open().unwrap();
        assert!(first.serve());
        let third = connections.open().unwrap();
        assert!(third.is_beyond_limit() && !second.is_beyond_limit());
        assert!(first.wait(Waker::noop()), "it has served a request at the time");
        assert!(!second.serve() && !second.wait(Waker::noop()), "it is cut");
        drop(second);
        drop(third);
        assert!(!connections.open().unwrap().is_beyond_limit());
    }

    #[test]
    fn beyond_the_reserve_no_connection_is_taken() {
        let connections = Connections::new(3);
        let held: Vec<_> = (0..3 + RESERVE).map(|_| connections.open().unwrap()).collect();
        assert!(connections.open().is_none());
        drop(held);
        assert!(connections.open().is_some());
    }

    #[test]
    fn a_part_of_the_open_files_is_left_for_other_purposes() {
        assert_eq!(Connections::limit_within(256, 60), 256 - 60 - 16 - 32);
        assert_eq!(Connections::limit_within(20_000, 60), 20_000 - 60 - 16 - 512);
        assert_eq!(Connections::limit_within(64, 60), 0);
    }
}
