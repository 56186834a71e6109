//! Tests of the event store: the contract for all stores ([`exercise`]), the additional behaviour of the store in a folder
//! ([`folder`], [`format`], [`checkpoints`]), and the additional behaviour of the store in a cluster (`cluster`).

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
