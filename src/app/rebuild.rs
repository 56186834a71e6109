//! Rebuilds the views from the whole log, without a server and without a snapshot, and writes a new snapshot.

use std::io;
use std::path::Path;

use super::StartError;
use crate::projection::reader::split_views;
use crate::projection::replay::views_at;
use crate::projection::snapshots::Snapshots;
use crate::store::EventStore;
use crate::task::Position;

/// Views that were rebuilt.
#[derive(Clone, Copy, Debug)]
pub struct Rebuilt {
    /// Position of the last event.
    pub position: Position,
    /// The number of tasks.
    pub tasks: u64,
}

/// Removes the snapshots of the log in this data folder, folds the log from the beginning, and writes a new snapshot. The server
/// must be stopped.
///
/// # Errors
/// The log can't be opened or read, or the snapshot can't be written.
pub async fn rebuild_views(data: &Path) -> Result<Rebuilt, StartError> {
    let failed = |error: io::Error| StartError::Io("can't write a snapshot of the views", error);
    let log = EventStore::open(data)?;
    let snapshots = Snapshots::new(data, &log);
    snapshots.remove_all().map_err(failed)?;
    let views = views_at(&log, None, log.head().position).await?;
    let rebuilt = Rebuilt { position: views.position(), tasks: views.totals().iter().sum() };
    if rebuilt.position > Position(0) {
        snapshots.write(&log, &split_views(views).1).await.map_err(failed)?;
    }
    Ok(rebuilt)
}
