//! Whether the actors that live as long as the process still do.

use tokio::sync::watch;

/// The name of the first long-lived actor that has stopped unexpectedly, if one has. Clones share it.
#[derive(Clone, Debug)]
pub struct Vitals(watch::Sender<Option<&'static str>>);

impl Default for Vitals {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Vitals {
    /// This actor has stopped.
    pub fn set_stopped(&self, actor: &'static str) {
        self.0.send_replace(Some(actor));
    }

    /// The actor that has stopped.
    #[must_use]
    pub fn stopped(&self) -> Option<&'static str> {
        *self.0.borrow()
    }

    /// Waits until an actor has stopped; for ever if none does.
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
