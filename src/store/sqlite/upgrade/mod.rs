//! Converts a log of format 1 to the present format.
//!
//! At every moment `log.db` is a complete log: first the old one, and after one rename the new one. So a process that is killed
//! leaves a log that can be opened, or converted by the next call; that call begins anew.
//!
//! 1. The write-ahead log is copied into `log.db`, which then holds the whole log.
//! 2. The events are copied into `log.db.new`. Each hash of the old log is checked.
//! 3. `log.db.new` is read back. Each hash is computed from what was read, and the file is made durable.
//! 4. The empty files of the old write-ahead log are removed, so that none of them is beside the new file.
//! 5. `log.db.format1` becomes a second name of the old file.
//! 6. `log.db.new` is renamed to `log.db`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::complete::require_write_ahead_log;
use super::folder::{create_file, lock_folder, sync_folder, with_suffix};
use super::format1::{FORMAT_1, OldFile};
use super::open::{open_error, other_format};
use super::read::ReadConnection;
use super::schema::{FORMAT, FileContents};
use crate::store::{Hash, OpenError, ReadError};
use crate::task::Position;

mod copy;
mod keep;

use copy::{Copy, CopyError, End, continue_chain, create_new_log};
use keep::keep_old_file;

/// The number of events in one transaction, and between two reports.
const PAGE_EVENTS: u64 = 1000;

/// What a conversion has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgraded {
    /// The number of events.
    pub events: u64,
    /// The hash of the last event, the same as before.
    pub hash: Hash,
    /// The size of the old file in bytes.
    pub bytes_before: u64,
    /// The size of the new file in bytes.
    pub bytes_after: u64,
    /// Where the old file is now.
    pub old_file: PathBuf,
}

/// A step of a conversion that has just ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpgradeStep {
    /// `log.db` holds the whole old log.
    OldFileCompleted,
    /// `log.db.new` has its tables.
    NewFileCreated,
    /// `log.db.new` holds the events up to `position`.
    Copied {
        /// The position of the last event that was copied.
        position: Position,
        /// The position of the last event of the log.
        last: Position,
    },
    /// The events up to `position` were read back.
    Verified {
        /// The position of the last event that was read.
        position: Position,
        /// The position of the last event of the log.
        last: Position,
    },
    /// `log.db.new` is durable.
    NewFileSynced,
    /// The files of the old write-ahead log are removed.
    WriteAheadLogRemoved,
    /// The old file has its second name.
    OldFileKept,
    /// `log.db` is the new log.
    Renamed,
}

/// Why a log was not converted. `log.db` is the old log, unless the last step could not be made durable.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The log can't be opened or written, or its format is not known.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder contains no log.
    #[error("{0}: the folder contains no log")]
    NoLog(PathBuf),
    /// Another program uses the file.
    #[error("another program uses {0}: close it and run the command again")]
    Busy(PathBuf),
    /// The old log was changed after it was written.
    #[error("the log is damaged and can't be converted: {0}")]
    Damaged(String),
    /// The new file differs from the old one.
    #[error("log.db.new was not read back as it was written: {0}")]
    Different(String),
}

type Report<'a> = &'a mut dyn FnMut(UpgradeStep);

/// Converts the log in this folder. Returns `None` if there is nothing to do. Calls `report` after each step.
///
/// # Errors
/// See [`UpgradeError`].
pub fn upgrade(dir: &Path, report: Report<'_>) -> Result<Option<Upgraded>, UpgradeError> {
    let path = dir.join("log.db");
    if !path.is_file() {
        return Err(UpgradeError::NoLog(dir.to_owned()));
    }
    let _lock = lock_folder(dir)?;
    let to_open_error = |error: rusqlite::Error| open_error(&path, &error);
    require_write_ahead_log(dir, &path)?;
    let old = OldFile::open(&path).map_err(to_open_error)?;
    match old.contents().map_err(to_open_error)? {
        FileContents::Log(FORMAT_1) => {}
        FileContents::Nothing | FileContents::Log(FORMAT) => {
            // The process that has renamed the file may have been killed before the name was durable.
            sync(dir)?;
            return Ok(None);
        }
        FileContents::Log(found) => return Err(other_format(&path, found).into()),
        FileContents::Other => return Err(OpenError::NotALog(path).into()),
    }
    Conversion { dir, path, new: dir.join("log.db.new"), report }.run(old).map(Some)
}

/// A conversion that is under way.
struct Conversion<'a> {
    dir: &'a Path,
    path: PathBuf,
    new: PathBuf,
    report: Report<'a>,
}

impl Conversion<'_> {
    fn run(mut self, old: OldFile) -> Result<Upgraded, UpgradeError> {
        self.complete_old_file(&old)?;
        let connection = self.create_new_file(&old)?;
        let end = self.copy(&old, connection)?;
        self.verify(end)?;
        File::open(&self.new).and_then(|file| file.sync_all()).map_err(|source| io_error(&self.new, source))?;
        (self.report)(UpgradeStep::NewFileSynced);
        let bytes_before = size(&self.path)?;
        self.remove_write_ahead_log(old)?;
        let old_file = self.replace_old_file()?;
        let (events, bytes_after) = (end.0.0, size(&self.path)?);
        Ok(Upgraded { events, hash: end.1, bytes_before, bytes_after, old_file })
    }

    fn complete_old_file(&mut self, old: &OldFile) -> Result<(), UpgradeError> {
        let is_complete = old.empty_write_ahead_log().map_err(|error| open_error(&self.path, &error))?;
        if !is_complete || !is_empty(&with_suffix(&self.path, "-wal"))? {
            return Err(UpgradeError::Busy(self.path.clone()));
        }
        (self.report)(UpgradeStep::OldFileCompleted);
        Ok(())
    }

    fn create_new_file(&mut self, old: &OldFile) -> Result<Connection, UpgradeError> {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            remove(&with_suffix(&self.new, suffix))?;
        }
        create_file(&self.new).map_err(|source| io_error(&self.new, source))?;
        let epoch = old.epoch().map_err(|error| open_error(&self.path, &error))?;
        let connection = create_new_log(&self.new, &epoch).map_err(|error| open_error(&self.new, &error))?;
        (self.report)(UpgradeStep::NewFileCreated);
        Ok(connection)
    }

    /// Copies the events into the new file. Returns the end of the log.
    fn copy(&mut self, old: &OldFile, connection: Connection) -> Result<End, UpgradeError> {
        let Self { path, new, report, .. } = self;
        let to_error = |error| match error {
            CopyError::Read(error) => open_error(path, &error).into(),
            CopyError::Write(reason) => OpenError::Database { path: new.clone(), reason }.into(),
            CopyError::Damaged(what) => UpgradeError::Damaged(what),
        };
        let last = old.last().map_err(|error| open_error(path, &error))?;
        let mut copy = Copy::begin(connection).map_err(to_error)?;
        let copied = old.for_each(|event| {
            let position = copy.insert(event)?;
            if position.0.is_multiple_of(PAGE_EVENTS) {
                copy.next_page()?;
                report(UpgradeStep::Copied { position, last });
            }
            Ok(())
        });
        let end = copied.and_then(|()| copy.finish()).map_err(to_error)?;
        report(UpgradeStep::Copied { position: end.0, last });
        Ok(end)
    }

    /// Reads the new file from its beginning and checks that its chain of hashes ends as that of the old log. A hash covers its
    /// event and all events before it.
    fn verify(&mut self, end: End) -> Result<(), UpgradeError> {
        let different = |error: ReadError| UpgradeError::Different(error.to_string());
        let (report, last) = (&mut *self.report, end.0);
        let mut read = (Position(0), Hash::ZERO);
        let reader = ReadConnection::open(&self.new).map_err(different)?;
        let all_read = reader.for_each_row(|event| {
            read = continue_chain(read, event)?;
            if read.0.0.is_multiple_of(PAGE_EVENTS) {
                report(UpgradeStep::Verified { position: read.0, last });
            }
            Ok(())
        });
        all_read.map_err(different)?;
        if read != end {
            return Err(UpgradeError::Different(format!("it ends at position {} with the hash {}", read.0, read.1)));
        }
        report(UpgradeStep::Verified { position: last, last });
        Ok(())
    }

    /// Removes the files of the old write-ahead log. `SQLite` would take them for those of the new file.
    fn remove_write_ahead_log(&mut self, old: OldFile) -> Result<(), UpgradeError> {
        drop(old);
        let wal = with_suffix(&self.path, "-wal");
        if !is_empty(&wal)? {
            return Err(UpgradeError::Busy(self.path.clone()));
        }
        remove(&wal)?;
        remove(&with_suffix(&self.path, "-shm"))?;
        sync(self.dir)?;
        (self.report)(UpgradeStep::WriteAheadLogRemoved);
        Ok(())
    }

    /// Gives the old file its second name and the new file the first one. Returns the second name.
    fn replace_old_file(&mut self) -> Result<PathBuf, UpgradeError> {
        let old_file = keep_old_file(&self.path, |from, to| fs::hard_link(from, to));
        let old_file = old_file.map_err(|source| io_error(&self.path, source))?;
        sync(self.dir)?;
        (self.report)(UpgradeStep::OldFileKept);
        fs::rename(&self.new, &self.path).map_err(|source| io_error(&self.new, source))?;
        (self.report)(UpgradeStep::Renamed);
        sync(self.dir)?;
        Ok(old_file)
    }
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}

/// Makes the names of the folder's files durable.
fn sync(dir: &Path) -> Result<(), OpenError> {
    sync_folder(dir).map_err(|source| io_error(dir, source))
}

fn size(path: &Path) -> Result<u64, OpenError> {
    Ok(fs::metadata(path).map_err(|source| io_error(path, source))?.len())
}

/// Whether the file is empty or doesn't exist.
fn is_empty(path: &Path) -> Result<bool, OpenError> {
    match fs::metadata(path) {
        Ok(file) => Ok(file.len() == 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(source) => Err(io_error(path, source)),
    }
}

/// Removes the file if it exists.
fn remove(path: &Path) -> Result<(), OpenError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
