//! Makes everything durable that an earlier process has left in the write-ahead log, before this process writes.
//!
//! After a failed sync, Linux marks the pages of the file as clean, although they are not on the disk. The process takes no more
//! writes then. But the next process reads these pages from the memory of the system, as if they were on the disk. If it appended
//! after them, a power cut would take them and everything behind them. So before the first write, the start either
//!
//! - copies the write-ahead log into `log.db`, syncs `log.db` and empties the write-ahead log, or
//! - if another program reads `log.db` and so keeps the write-ahead log from being emptied: writes the committed bytes of the
//!   write-ahead log to their places again and syncs it. Meanwhile it holds the lock for writers, so that the file doesn't change.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::folder::with_suffix;
use super::wal;
use crate::store::OpenError;

/// How long a statement waits for another program that has locked the file.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a start waits for a program that writes to `log.db`.
pub(super) const WRITER_WAIT: Duration = Duration::from_secs(10);
/// The number of bytes that are written back together.
const CHUNK_BYTES: usize = 1 << 20;

/// Makes the committed contents of the write-ahead log durable. Waits at most `wait` for a program that writes. Returns whether the
/// write-ahead log is empty now.
pub(super) fn make_durable(connection: &Connection, path: &Path, wait: Duration) -> Result<bool, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::Database {
        path: path.to_owned(),
        reason: format!("the write-ahead log can't be copied to this file: {error}"),
    };
    if empty_write_ahead_log(connection, Duration::ZERO).map_err(failed)? {
        return Ok(true);
    }
    tracing::info!(
        "another program reads log.db, so its write-ahead log can't be emptied now: the start writes this file to the disk \
         again, and waits up to {} s if that program writes",
        wait.as_secs()
    );
    connection.busy_timeout(wait).map_err(failed)?;
    match connection.execute_batch("BEGIN IMMEDIATE") {
        Err(error) if is_busy(&error) => return Err(OpenError::InUse { path: path.to_owned(), waited: wait }),
        begun => begun.map_err(failed)?,
    }
    let file = with_suffix(path, "-wal");
    let written = write_back(&file).map_err(|source| OpenError::Io { path: file, source });
    connection.execute_batch("ROLLBACK").map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    written.map(|()| false)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Copies the write-ahead log into the main file, syncs the main file and empties the write-ahead log. Waits at most `wait` for
/// readers of other programs. Returns false if one of them is still in the way.
pub(super) fn empty_write_ahead_log(connection: &Connection, wait: Duration) -> rusqlite::Result<bool> {
    connection.busy_timeout(wait)?;
    // If a reader is in the way, this is a row and not an error.
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| Ok(row.get::<_, i64>(0)? == 0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    emptied
}

/// Writes the committed bytes of the file to their places again, and syncs the file. So pages that only the memory of the system
/// holds are written to the disk. A power cut meanwhile changes nothing: each byte is written over itself.
fn write_back(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = wal::scan(&mut io::BufReader::new(&file))?.committed_bytes;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    while offset < length {
        let chunk = &mut chunk[..usize::try_from(length - offset).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES)];
        file.read_exact_at(chunk, offset)?;
        file.write_all_at(chunk, offset)?;
        offset += chunk.len() as u64;
    }
    File::sync_all(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_writes_for_too_long_is_named_as_the_reason_of_the_refusal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let open = || Connection::open(&path).unwrap();
        let (first, other) = (open(), open());
        first.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        other.execute_batch("CREATE TABLE t (a); BEGIN IMMEDIATE; INSERT INTO t VALUES (1);").unwrap();
        let refused = make_durable(&first, &path, Duration::from_millis(1)).unwrap_err();
        assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
        assert!(refused.to_string().contains("start Taskbell first, and then that program"), "{refused}");
        other.execute_batch("COMMIT").unwrap();
        assert!(make_durable(&first, &path, Duration::from_millis(1)).unwrap());
        assert_eq!(with_suffix(&path, "-wal").metadata().unwrap().len(), 0);
    }

    #[test]
    fn bytes_are_written_over_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        let (writer, reader) = (Connection::open(&path).unwrap(), Connection::open(&path).unwrap());
        writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
        writer.execute_batch("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(3000000));").unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t;").unwrap();
        writer.execute_batch("INSERT INTO t VALUES (1);").unwrap();
        let wal = || std::fs::read(with_suffix(&path, "-wal")).unwrap();
        let before = wal();
        assert!(before.len() > 2 * CHUNK_BYTES);
        assert!(!make_durable(&writer, &path, Duration::from_millis(1)).unwrap());
        assert!(wal() == before);
    }
}
