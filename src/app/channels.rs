//! Connects the worker inside the process with the actors. `work` doesn't import them, so it gets recipients of its messages.

use actix::Addr;

use crate::dispatch::dispatcher::Dispatcher;
use crate::projection::projector::Projector;
use crate::store::new_id;
use crate::streams::registry::Registry;
use crate::work::LocalReporter;

/// The name of the worker inside the process, and the recipients of its messages. The name contains the host name and a new
/// id, so it differs after each start.
pub(super) fn worker_channels(
    registry: &Registry,
    dispatcher: &Addr<Dispatcher>,
    projector: &Addr<Projector>,
) -> LocalReporter {
    LocalReporter {
        worker: format!("local/{}/{}", host_name(), new_id().simple()),
        execute: registry.recipient(),
        offer: dispatcher.clone().recipient(),
        stopped: dispatcher.clone().recipient(),
        progress: projector.clone().recipient(),
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.').collect();
    if name.is_empty() { "server".to_owned() } else { name }
}
