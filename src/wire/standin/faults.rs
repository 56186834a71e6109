//! The switches by which tests disturb the database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// What is disturbed now.
#[derive(Default)]
pub(super) struct Faults {
    is_frozen: watch::Sender<bool>,
    are_answers_held: watch::Sender<bool>,
    latency: Mutex<Duration>,
    /// Requests that wait for a switch.
    hanging: watch::Sender<usize>,
    ended: Notify,
}

impl Faults {
    pub(super) fn freeze(&self, is_frozen: bool) {
        self.is_frozen.send_replace(is_frozen);
    }

    pub(super) fn hold_answers(&self, are_held: bool) {
        self.are_answers_held.send_replace(are_held);
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// Waits while the database is frozen.
    pub(super) async fn before_request(&self) {
        self.released(&self.is_frozen).await;
    }

    /// Waits for the latency, and while answers are held back.
    pub(super) async fn before_answer(&self) {
        let latency = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.released(&self.are_answers_held).await;
    }

    pub(super) fn end_subscriptions(&self) {
        self.ended.notify_waiters();
    }

    pub(super) async fn subscriptions_end(&self) {
        self.ended.notified().await;
    }

    /// Returns when at least `count` requests hang.
    pub(super) async fn wait_for_hanging(&self, count: usize) {
        // The sender is in `self`, so that there is no error.
        let _ = self.hanging.subscribe().wait_for(|hanging| *hanging >= count).await;
    }

    async fn released(&self, switch: &watch::Sender<bool>) {
        let mut switch = switch.subscribe();
        if *switch.borrow_and_update() {
            let _counted = Hanging::begin(&self.hanging);
            // An error means that the database is gone, and its requests with it.
            let _ = switch.wait_for(|is_on| !is_on).await;
        }
    }
}

/// Counts a request while it hangs; its client may give it up.
struct Hanging<'a>(&'a watch::Sender<usize>);

impl<'a> Hanging<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Hanging<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
