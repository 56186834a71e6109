//! The state that the parts of a remote worker share.

use tokio::sync::{Mutex, mpsc};

use super::http::HttpClient;
use super::leases::HeldLeases;
use super::outbox::PendingFinish;

/// The state of a running remote worker.
pub(super) struct WorkerState {
    pub http: HttpClient,
    /// The worker's name.
    pub worker: String,
    pub leases: HeldLeases,
    /// Locked while progress is sent. So an older progress can't reach the server after the last progress of an attempt that
    /// ends.
    pub progress_lock: Mutex<()>,
    /// Finishes for the outbox.
    pub finishes: mpsc::UnboundedSender<PendingFinish>,
}
