//! What a client has done on its connection, and until when it must have done it. Otherwise a client could hold a connection for
//! ever without a credential: a client that only answers pings is alive.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Context;
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// The client has sent a request. Before that, its progress is 0.
const ASKED: u8 = 1;
/// The client has sent a request with a right password, or needs none.
const ADMITTED: u8 = 2;

/// Whose connection it is, and what the client has done. A clone refers to the same connection. The service finds it in each
/// request.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionInfo {
    /// The address of the client, if it is known.
    pub(super) client: Option<IpAddr>,
    progress: Arc<AtomicU8>,
}

impl ConnectionInfo {
    pub(super) fn new(client: IpAddr) -> Self {
        Self { client: Some(client), progress: Arc::default() }
    }

    /// The client has sent a request.
    pub(super) fn note_request(&self) {
        self.progress.fetch_max(ASKED, Ordering::Relaxed);
    }

    /// The client has sent a request that needs no password, or one with a right password.
    pub(super) fn note_admission(&self) {
        self.progress.fetch_max(ADMITTED, Ordering::Relaxed);
    }

    fn has_reached(&self, progress: u8) -> bool {
        self.progress.load(Ordering::Relaxed) >= progress
    }
}

/// The time within which a client must send its first request, and then as much again for one that is admitted.
pub(super) struct Deadline {
    timer: Pin<Box<Sleep>>,
    timeout: Duration,
    is_extended: bool,
}

impl Deadline {
    /// The deadline of a client that has just connected.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timer: Box::pin(sleep(timeout)), timeout, is_extended: false }
    }

    /// Whether the client has missed its deadline. If not, the task is woken when the deadline comes.
    pub(super) fn is_missed(&mut self, connection: &ConnectionInfo, cx: &mut Context<'_>) -> bool {
        while !connection.has_reached(ADMITTED) && self.timer.as_mut().poll(cx).is_ready() {
            if self.is_extended || !connection.has_reached(ASKED) {
                return true;
            }
            self.is_extended = true;
            let until = self.timer.deadline() + self.timeout;
            self.timer.as_mut().reset(until);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::time::Instant;

    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    /// Waits until the deadline of the client is missed, and returns how long that took.
    async fn time_until_missed(connection: &ConnectionInfo) -> Duration {
        let (begun, mut deadline) = (Instant::now(), Deadline::new(TIMEOUT));
        poll_fn(|cx| if deadline.is_missed(connection, cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_client_has_one_deadline_for_a_request_and_another_one_for_an_admitted_one() {
        let connection = ConnectionInfo::default();
        assert!(time_until_missed(&connection).await >= TIMEOUT);
        connection.note_request();
        assert!(time_until_missed(&connection).await >= 2 * TIMEOUT);
        connection.note_admission();
        connection.note_request();
        let mut deadline = Deadline::new(Duration::ZERO);
        for _ in 0..3 {
            assert!(
                !poll_fn(|cx| Poll::Ready(deadline.is_missed(&connection, cx))).await,
                "an admitted client has none"
            );
        }
    }
}
