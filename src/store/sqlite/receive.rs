//! Waits for the next request of a queue, or until a time. A thread without an async runtime can't use tokio's timers.

use std::sync::Arc;
use std::task::{Context, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Instant;

use tokio::sync::mpsc;

/// What a wait has ended with.
pub(super) enum Received<T> {
    /// A request has come.
    Request(T),
    /// No request has come in time.
    TimeIsOver,
    /// The queue is closed and empty.
    Closed,
}

/// Blocks until a request comes, the queue is closed or, if `until` is set, this time is reached.
pub(super) fn receive_until<T>(queue: &mut mpsc::Receiver<T>, until: Option<Instant>) -> Received<T> {
    let Some(until) = until else { return queue.blocking_recv().map_or(Received::Closed, Received::Request) };
    let waker = Arc::new(Unpark(thread::current())).into();
    loop {
        match queue.poll_recv(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(request)) => return Received::Request(request),
            Poll::Ready(None) => return Received::Closed,
            Poll::Pending => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Received::TimeIsOver;
        }
        // If a request comes before this, the thread is unparked already and doesn't wait.
        thread::park_timeout(left);
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_ends_the_wait_and_so_does_the_time_and_the_end_of_the_queue() {
        let (sender, mut queue) = mpsc::channel(1);
        let later = Some(Instant::now() + Duration::from_hours(1));
        assert!(matches!(receive_until(&mut queue, Some(Instant::now())), Received::TimeIsOver));
        let sending = thread::spawn(move || sender.blocking_send(7).map(|()| sender));
        assert!(matches!(receive_until(&mut queue, later), Received::Request(7)));
        let closing = thread::spawn(move || drop(sending.join()));
        assert!(matches!(receive_until(&mut queue, later), Received::Closed));
        closing.join().unwrap();
    }
}
