//! Tests of the event store: the contract for all stores ([`exercise`]), the additional behaviour of the store in a folder
//! ([`folder`], [`format`], [`checkpoints`], [`complete`]), and the additional behaviour of the store in a cluster (`cluster`).

use std::path::Path;
use std::sync::Arc;

pub use taskbell::store::conformance::sample::lines;
use taskbell::store::conformance::sample::{
    append, attempt_failed, created, first, new_event, next, queued, seen, stream,
};
use taskbell::store::{EventStore, Expected, LogEvent, Recorded};
use taskbell::task::{Position, Revision};

mod checkpoints;
#[cfg(feature = "eventstore")]
mod cluster;
mod codec;
mod complete;
pub mod damage;
mod exercise;
mod flips;
mod fold;
pub mod folder;
pub mod format;

#[cfg(feature = "eventstore")]
pub use cluster::{ANY_PORT, connect, in_time, ready};

pub async fn all_events(store: &EventStore) -> Vec<Arc<Recorded>> {
    store.read_all(Position(0), usize::MAX).await.unwrap()
}

/// Copies the files of an open log as a kill would leave them. No append may be under way.
pub fn copy_as_killed(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        // A process that opens the log makes this file anew.
        if entry.file_name() != "log.db-shm" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
