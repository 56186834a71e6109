//! A copy of the log at one moment, also while a server writes it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::folder::{create_file, create_folder, sync_folder};
use super::open::open_error;
use super::verify::{Verified, VerifyError, VerifyRange, verify_log};
use crate::store::OpenError;
use crate::task::Position;

/// The name of the copy until it is complete and checked.
const UNFINISHED: &str = "unfinished";

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The data folder has no log.
    #[error("{}: the folder has no log", .0.display())]
    NoLog(PathBuf),
    /// The target folder has a log already.
    #[error("{} has a log already: choose another folder", .0.display())]
    Exists(PathBuf),
    /// The log can't be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file or a folder can't be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or the folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The copy can't be checked.
    #[error("the copy: {0}")]
    Verify(#[from] VerifyError),
    /// The copy is not as the events were written. Most likely the log itself is damaged.
    #[error("the log is damaged, so the copy was removed: {0}; check the log with `taskbell log verify`")]
    Damaged(String),
}

/// Copies the log in the folder `data` to `log.db` in the folder `target`, and checks every event of the copy. A server may write the
/// log meanwhile: the copy has the events up to one moment. The write-ahead log grows while the copy is made.
///
/// The copy has no witness. So a server that is started on it says that events may be missing, and needs `accept_truncation`, which
/// gives the log a new id (epoch).
///
/// # Errors
/// See [`BackupError`]. The target folder has no log then.
pub fn backup_log(data: &Path, target: &Path) -> Result<Verified, BackupError> {
    let (source, copy) = (data.join("log.db"), target.join("log.db"));
    if !source.is_file() {
        return Err(BackupError::NoLog(data.to_owned()));
    }
    if copy.exists() {
        return Err(BackupError::Exists(target.to_owned()));
    }
    let unfinished = target.join(UNFINISHED);
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| BackupError::Io { path, source }
    };
    create_folder(target).map_err(at(target))?;
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    }
    create_folder(&unfinished).map_err(at(&unfinished))?;
    let verified = copy_and_verify(&source, &unfinished).and_then(|verified| {
        fs::rename(unfinished.join("log.db"), &copy).map_err(at(&copy))?;
        sync_folder(target).map_err(at(target))?;
        Ok(verified)
    });
    fs::remove_dir_all(&unfinished).map_err(at(&unfinished))?;
    verified
}

fn copy_and_verify(source: &Path, folder: &Path) -> Result<Verified, BackupError> {
    let copy = folder.join("log.db");
    let to_io = |source: io::Error| BackupError::Io { path: copy.clone(), source };
    // `SQLite` would create the file so that others can read it.
    create_file(&copy).map_err(to_io)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy_log = || {
        let connection = Connection::open_with_flags(source, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.execute("VACUUM INTO ?", [copy.to_string_lossy()])
    };
    copy_log().map_err(|error: rusqlite::Error| BackupError::Open(open_error(source, &error)))?;
    File::open(&copy).and_then(|file| file.sync_all()).map_err(to_io)?;
    let whole = VerifyRange { from: Position(1), to: None, head: None };
    let verified = verify_log(folder, whole, &mut |_, _| ())?;
    match verified.faults.first() {
        None => Ok(verified),
        Some(fault) => Err(BackupError::Damaged(fault.what.clone())),
    }
}
