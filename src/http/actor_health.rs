//! Whether all actors that should run as long as the process still run.

use tokio::sync::watch;

/// The name of the first long-lived actor that has stopped unexpectedly, if one has stopped. Clones share the value.
#[derive(Clone, Debug)]
pub struct ActorHealth(watch::Sender<Option<&'static str>>);

impl Default for ActorHealth {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl ActorHealth {
    /// Records that this actor has stopped.
    pub fn set_stopped(&self, actor: &'static str) {
        self.0.send_replace(Some(actor));
    }

    /// Returns the name of the actor that has stopped; `None` while all run.
    #[must_use]
    pub fn stopped_actor(&self) -> Option<&'static str> {
        *self.0.borrow()
    }

    /// Waits until an actor has stopped, and returns its name. Waits for ever if no actor stops.
    pub async fn wait_for_stop(&self) -> &'static str {
        let mut stopped = self.0.subscribe();
        loop {
            if let Some(actor) = *stopped.borrow_and_update() {
                return actor;
            }
            if stopped.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}
