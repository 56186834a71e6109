//! The faults that tests switch on: delays and ended subscriptions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// The faults that are switched on now.
#[derive(Default)]
pub(super) struct Faults {
    /// Whether requests wait before they are executed.
    is_frozen: watch::Sender<bool>,
    /// Whether the responses to writes wait before they are sent.
    are_answers_held: watch::Sender<bool>,
    /// How long each response to a write waits at least.
    latency: Mutex<Duration>,
    /// The number of requests that wait until a switch is off.
    hanging: watch::Sender<usize>,
    subscription_end: Notify,
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

    /// Called before a request is executed. Waits while the database is frozen.
    pub(super) async fn before_request(&self) {
        self.wait_until_off(&self.is_frozen).await;
    }

    /// Called before the response to a write is sent. Waits for the latency, and while responses are held back.
    pub(super) async fn before_answer(&self) {
        let latency = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.wait_until_off(&self.are_answers_held).await;
    }

    pub(super) fn end_subscriptions(&self) {
        self.subscription_end.notify_waiters();
    }

    pub(super) async fn wait_for_subscription_end(&self) {
        self.subscription_end.notified().await;
    }

    /// Waits until at least `count` requests wait for a switch.
    pub(super) async fn wait_for_hanging(&self, count: usize) {
        // There is no error, because `self` holds the sender.
        let _ = self.hanging.subscribe().wait_for(|hanging| *hanging >= count).await;
    }

    /// Waits until the switch is off, and counts the request while it waits.
    async fn wait_until_off(&self, switch: &watch::Sender<bool>) {
        let mut switch = switch.subscribe();
        if *switch.borrow_and_update() {
            let _counted = HangingRequest::begin(&self.hanging);
            // There is no error, because `self` holds the sender.
            let _ = switch.wait_for(|is_on| !is_on).await;
        }
    }
}

/// Counts a request while it waits for a switch. The request may be dropped while it waits; then it no longer counts.
struct HangingRequest<'a>(&'a watch::Sender<usize>);

impl<'a> HangingRequest<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for HangingRequest<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
