//! The folder of the log: how it and its files are created, made durable and locked.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::store::OpenError;

/// How long an open waits for the lock of the folder. When a thread starts another program, the new process has copies of all
/// open files, and so of the lock, until the program begins. A log that was closed meanwhile stays locked for that time.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The time between two attempts to lock the folder.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// Creates the folder if it doesn't exist; only its owner can read it. The folder's entry in its parent is durable when this
/// returns.
pub(super) fn create_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Creates the file, which only its owner can read, unless it exists already. `SQLite` creates the files of its write-ahead
/// log with the same mode.
pub(super) fn create_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// The file that `SQLite` keeps beside this one under the same name and this suffix, like `-wal`.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the names of the folder's files durable.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Locks the folder. It stays locked until the returned file is closed.
pub(super) fn lock_folder(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => std::thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path, source }),
        }
    }
}
