//! Snapshots of the views in files, so that a restart and a look at the past read the end of the log and not all of it.
//!
//! A snapshot is a cache. It is used only if this program has written it, if it is complete and unchanged, and if the log has
//! the event that it ends with. Otherwise it is removed, and the log is read from an older snapshot or from the beginning.
//!
//! **When**: after [`EVENTS_MIN`] further events, and at least a sixth of the log; and when the server stops. **Which stay**: the
//! newest two, and of the older ones so many that the next older one is never further away than about a third of its position. All
//! of them together take about four times the space of the newest one.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

use super::reader::ViewsReader;
use crate::store::EventStore;
use crate::task::{Position, Timestamp};
use crate::views::Views;
use crate::views::saved::Capture;
use file::Header;

mod file;

/// No snapshot is written while the server runs before so many further events.
const EVENTS_MIN: u64 = 100_000;
/// When the server stops, a snapshot is written if the newest one lacks so many events.
const EVENTS_MIN_AT_STOP: u64 = 10_000;
/// The ending of the files' names. The name before it is the position.
const ENDING: &str = "views";

/// The snapshots of a log in a folder. Clones share them.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: Arc<Path>,
    epoch: Uuid,
    /// Held while a file is written. A write goes on when its caller is dropped, and the stop of the server writes too.
    writing: Arc<Mutex<()>>,
}

/// Which snapshots a reader of the past can use: those without a later event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Until {
    /// The last position.
    pub position: Position,
    /// The latest time of an event; `None` if any time will do.
    pub time: Option<Timestamp>,
}

impl Snapshots {
    /// The snapshots of the log in the data folder.
    #[must_use]
    pub fn new(data: &Path, log: &EventStore) -> Self {
        Self { dir: data.join("snapshots").into(), epoch: log.epoch(), writing: Arc::default() }
    }

    /// The views of the newest usable snapshot of this log; `None` if there is none. Removes those that are not usable.
    pub async fn newest(&self, log: &EventStore, until: Until) -> Option<Views> {
        for position in self.positions().into_iter().rev().filter(|position| *position <= until.position) {
            let path = self.path(position);
            let header = file::read_header(&path).filter(|header| header.epoch == self.epoch);
            let Some(header) = header.filter(|header| header.position == position) else {
                self.remove(position, "another program or log has written it");
                continue;
            };
            if until.time.is_some_and(|time| header.latest > Some(time)) {
                continue;
            }
            if !is_of_log(log, header).await? {
                self.remove(position, "the log has another event at its position");
                continue;
            }
            let begun = Instant::now();
            match tokio::task::spawn_blocking(move || file::read(&path)).await.ok()? {
                Some(views) => {
                    tracing::debug!(%position, took = ?begun.elapsed(), "a snapshot of the views is read");
                    return Some(views);
                }
                None => self.remove(position, "it is not complete, or was changed"),
            }
        }
        None
    }

    /// If this process has started from a snapshot, reads the events before it, which the start has not read, and checks that each
    /// continues the chain of hashes. The log notes damage, so that the server isn't ready from then on.
    pub async fn check_log(&self, log: &EventStore) {
        let (begun, head) = (Instant::now(), log.head().position);
        if self.positions().is_empty() {
            return;
        }
        match log.fold((Position(0), head), (), |(), _| ()).await {
            Ok(()) => tracing::debug!(%head, took = ?begun.elapsed(), "the events before the snapshot are checked"),
            Err(error) => tracing::error!(
                %error,
                "the log is damaged or can't be read; if it is damaged, the server is not ready any more: stop it, and check its \
                 data folder with `taskbell log verify`"
            ),
        }
    }

    /// Writes a snapshot again and again, when enough events have followed the last one. Ends when the views fail.
    pub async fn follow(self, log: EventStore, reader: ViewsReader) {
        let mut last = self.positions().last().copied().unwrap_or(Position(0));
        let mut head = log.head_changes();
        loop {
            let due = Position(last.0 + EVENTS_MIN.max(last.0 / 6));
            if head.wait_for(|position| *position >= due).await.is_err() {
                return;
            }
            while !reader.wait_for_position(due).await {
                if reader.failure().is_some() {
                    return;
                }
            }
            last = reader.position();
            if let Err(error) = self.write(&log, &reader).await {
                tracing::warn!(%error, "a snapshot of the views can't be written; the next start reads more of the log");
            }
        }
    }

    /// Writes a snapshot if the newest one lacks many events. For the end of the process.
    pub async fn write_at_stop(&self, log: &EventStore, reader: &ViewsReader) {
        let last = self.positions().last().copied().unwrap_or(Position(0));
        if reader.failure().is_some() || reader.position().0 < last.0 + EVENTS_MIN_AT_STOP {
            return;
        }
        if let Err(error) = self.write(log, reader).await {
            tracing::warn!(%error, "no snapshot of the views could be written; the next start reads more of the log");
        }
    }

    /// Writes a snapshot of the present views, and removes older ones that are not needed any more. Returns its position.
    ///
    /// # Errors
    /// The file can't be written, or the log can't be read. The other snapshots stay as they are.
    pub async fn write(&self, log: &EventStore, reader: &ViewsReader) -> io::Result<Position> {
        let capture = reader.views().capture().ok_or_else(|| io::Error::other("the views can't be captured"))?;
        let position = capture.position();
        let before = Position(position.0.saturating_sub(1));
        let last = log.read_all(before, 1).await.map_err(io::Error::other)?;
        let last = last.first().filter(|last| last.position == position);
        let hash = last.ok_or_else(|| io::Error::other("the log has no event at the position of the views"))?.hash;
        let header = Header { epoch: self.epoch, position, hash, latest: capture.latest() };
        let snapshots = self.clone();
        let written = tokio::task::spawn_blocking(move || snapshots.write_file(header, &capture)).await;
        written.map_err(io::Error::other)??;
        Ok(position)
    }

    /// Removes all snapshots.
    ///
    /// # Errors
    /// A file can't be removed.
    pub fn remove_all(&self) -> io::Result<()> {
        self.positions().into_iter().try_for_each(|position| fs::remove_file(self.path(position)))
    }

    /// A kill while the file is written leaves a file with another ending, which the next write removes.
    fn write_file(&self, header: Header, capture: &Capture) -> io::Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        if !self.dir.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        }
        let (path, unfinished) = (self.path(header.position), self.dir.join("unfinished"));
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        file::write(&unfinished, header, capture).inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
        fs::rename(&unfinished, path)?;
        File::open(&self.dir)?.sync_all()?;
        tracing::debug!(position = %header.position, took = ?begun.elapsed(), "a snapshot of the views is written");
        let positions = self.positions();
        for position in not_needed(&positions) {
            fs::remove_file(self.path(position))?;
        }
        Ok(())
    }

    /// The positions of the snapshots, in ascending order.
    fn positions(&self) -> Vec<Position> {
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let position = |path: PathBuf| {
            let name = path.file_stem().filter(|_| path.extension().is_some_and(|ending| ending == ENDING))?;
            name.to_str()?.parse().ok().map(Position)
        };
        let mut positions: Vec<Position> = files.filter_map(|file| position(file.path())).collect();
        positions.sort_unstable();
        positions
    }

    fn path(&self, position: Position) -> PathBuf {
        self.dir.join(format!("{:020}.{ENDING}", position.0))
    }

    fn remove(&self, position: Position, why: &str) {
        tracing::info!(%position, why, "a snapshot of the views is removed");
        if let Err(error) = fs::remove_file(self.path(position)) {
            tracing::warn!(%error, %position, "a snapshot of the views can't be removed");
        }
    }
}

/// Whether the log has the event with which the snapshot ends; `None` if the log can't be read.
async fn is_of_log(log: &EventStore, header: Header) -> Option<bool> {
    if log.head().position < header.position {
        return Some(false);
    }
    let last = log.read_all(Position(header.position.0.checked_sub(1)?), 1).await.ok()?;
    Some(last.first().is_some_and(|last| last.position == header.position && last.hash == header.hash))
}

/// The positions whose snapshots can be removed. The newest two stay, in case that the newest one is damaged. Of the others, the
/// oldest one stays in each of the spans 1 to 1.5, 1.5 to 2.25, and so on.
fn not_needed(positions: &[Position]) -> Vec<Position> {
    let older = &positions[..positions.len().saturating_sub(2)];
    let (mut end, mut removed) = (0, Vec::new());
    for position in older {
        if position.0 < end {
            removed.push(*position);
            continue;
        }
        end = end.max(1);
        while end <= position.0 {
            end += end.div_ceil(2);
        }
    }
    removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_a_snapshot_is_the_further_the_next_older_one_is_away() {
        let (mut kept, mut next) = (Vec::new(), EVENTS_MIN);
        while next < 1_000_000_000 {
            kept.push(Position(next));
            let removed = not_needed(&kept);
            kept.retain(|position| !removed.contains(position));
            let sizes: u64 = kept.iter().map(|position| position.0).sum();
            assert!(sizes <= 5 * next, "{kept:?}");
            for pair in kept.windows(2) {
                assert!(pair[1].0 <= 2 * pair[0].0, "{kept:?}");
            }
            next += EVENTS_MIN.max(next / 6);
        }
        assert!(kept.len() < 30, "{}", kept.len());
    }
}
