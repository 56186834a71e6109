//! The switches by which tests disturb the database.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// What is disturbed now.
#[derive(Default)]
pub(super) struct Faults {
    is_frozen: watch::Sender<bool>,
    are_answers_held: watch::Sender<bool>,
    ended_subscriptions: Notify,
    latency: Mutex<Duration>,
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

    pub(super) fn end_subscriptions(&self) {
        self.ended_subscriptions.notify_waiters();
    }

    /// Waits until [`Self::end_subscriptions`] is called.
    pub(super) async fn end_of_subscriptions(&self) {
        self.ended_subscriptions.notified().await;
    }

    /// Waits while the database is frozen.
    pub(super) async fn before_request(&self) {
        released(&self.is_frozen).await;
    }

    /// Waits for the latency, and while answers are held back.
    pub(super) async fn before_answer(&self) {
        let latency = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        released(&self.are_answers_held).await;
    }
}

async fn released(switch: &watch::Sender<bool>) {
    // An error means that the database is gone, and its requests with it.
    let _ = switch.subscribe().wait_for(|is_on| !is_on).await;
}
