//! The faults that tests switch on: delays and ended subscriptions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// The faults that are switched on now.
#[derive(Default)]
pub(super) struct InjectedFaults {
    /// While it is on, requests are held before they are executed.
    frozen_switch: watch::Sender<bool>,
    /// While it is on, the responses to writes are held before they are sent.
    hold_responses_switch: watch::Sender<bool>,
    /// The delay of each response to a write.
    latency: Mutex<Duration>,
    /// The number of requests that are held by a switch.
    waiting_requests: watch::Sender<usize>,
    subscription_end: Notify,
}

impl InjectedFaults {
    pub(super) fn freeze(&self, is_frozen: bool) {
        self.frozen_switch.send_replace(is_frozen);
    }

    pub(super) fn hold_responses(&self, are_held: bool) {
        self.hold_responses_switch.send_replace(are_held);
    }

    pub(super) fn set_latency(&self, latency: Duration) {
        *self.latency.lock().unwrap_or_else(PoisonError::into_inner) = latency;
    }

    /// Called before a request is executed. Waits while the database is frozen.
    pub(super) async fn before_request(&self) {
        self.wait_until_off(&self.frozen_switch).await;
    }

    /// Called before the response to a write is sent. Waits for the latency, and while responses are held back.
    pub(super) async fn before_response(&self) {
        let latency = *self.latency.lock().unwrap_or_else(PoisonError::into_inner);
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        self.wait_until_off(&self.hold_responses_switch).await;
    }

    pub(super) fn end_subscriptions(&self) {
        self.subscription_end.notify_waiters();
    }

    pub(super) async fn wait_for_injected_end(&self) {
        self.subscription_end.notified().await;
    }

    /// Waits until at least `count` requests are held by a switch.
    pub(super) async fn wait_for_delayed_requests(&self, count: usize) {
        // There is no error, because `self` holds the sender.
        let _ = self.waiting_requests.subscribe().wait_for(|waiting_requests| *waiting_requests >= count).await;
    }

    /// Holds a request until the switch is off, and counts it during that time.
    async fn wait_until_off(&self, switch: &watch::Sender<bool>) {
        let mut switch = switch.subscribe();
        if *switch.borrow_and_update() {
            let _counted = WaitingRequest::begin(&self.waiting_requests);
            // There is no error, because `self` holds the sender.
            let _ = switch.wait_for(|is_on| !is_on).await;
        }
    }
}

/// Counts a request while a switch holds it. If the request is dropped during that time, it no longer counts.
struct WaitingRequest<'a>(&'a watch::Sender<usize>);

impl<'a> WaitingRequest<'a> {
    fn begin(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for WaitingRequest<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
