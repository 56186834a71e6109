//! What the parts of a remote worker share.

use tokio::sync::{Mutex, mpsc};

use super::http::HttpClient;
use super::leases::HeldLeases;
use super::outbox::PendingFinish;

pub(super) struct Link {
    pub http: HttpClient,
    /// The worker's name.
    pub worker: String,
    pub leases: HeldLeases,
    /// Held while progress is sent, so that an older one can't arrive after the last one of an attempt that ends.
    pub sending_progress: Mutex<()>,
    pub finishes: mpsc::UnboundedSender<PendingFinish>,
}
