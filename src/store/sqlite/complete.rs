//! Whether the log in a folder has all events that were acknowledged, as far as its files can show: the write-ahead log has no
//! damage before its end, and the log has the event that the witness names.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _};
use uuid::Uuid;

use super::folder::with_suffix;
use super::wal::{self, WalContents, WalDamage};
use super::witness::{Witness, WitnessContents};
use super::witness_file::{read_witness, witness_path};
use crate::store::{Hash, Head, Incomplete, OpenError};
use crate::task::Position;

/// How often a write-ahead log is read again that another program begins anew meanwhile.
const SCANS_MAX: usize = 5;

/// The files of a folder, before `SQLite` opens them. It would cut the write-ahead log where it is damaged, and remove it if
/// `log.db` is empty.
pub(super) struct FilesLeft {
    /// The log's file.
    path: PathBuf,
    witness_path: PathBuf,
    pub(super) witness: WitnessContents,
    wal: WalContents,
    log_is_empty: bool,
}

impl FilesLeft {
    /// Reads the files in this folder.
    pub(super) fn find(dir: &Path, path: &Path) -> Result<Self, OpenError> {
        let (path, witness_path) = (path.to_owned(), witness_path(dir));
        let witness = read_witness(&witness_path);
        let witness = witness.map_err(|source| OpenError::Io { path: witness_path.clone(), source })?;
        let wal = scan_write_ahead_log(&path)?;
        let log_is_empty = path.metadata().is_ok_and(|file| file.len() == 0) || !path.exists();
        Ok(Self { path, witness_path, witness, wal, log_is_empty })
    }

    /// What the files show without `SQLite`.
    pub(super) fn incomplete_files(&self) -> Option<Incomplete> {
        if self.log_is_empty {
            return self.incomplete_if_new();
        }
        self.wal.damage.map(|damage| wal_damaged(&self.path, damage))
    }

    /// What the files show if `log.db` holds no log.
    pub(super) fn incomplete_if_new(&self) -> Option<Incomplete> {
        let names_event = match self.witness {
            WitnessContents::Missing => false,
            WitnessContents::Damaged => true,
            WitnessContents::Valid { witness, .. } => witness.position > Position(0),
        };
        let has_commits = self.wal.committed_bytes > 0 || self.wal.damage.is_some();
        let other = if names_event { self.witness_path.clone() } else { with_suffix(&self.path, "-wal") };
        (names_event || has_commits).then(|| Incomplete::Empty { file: self.path.clone(), other })
    }

    /// What the log shows that is in `log.db`.
    pub(super) fn incomplete_log(&self, log: &LogFound) -> Option<Incomplete> {
        let (file, witness) = (self.path.clone(), self.witness_path.clone());
        let position = log.head.position;
        let named = match self.witness {
            WitnessContents::Missing if log.has_witness => {
                return Some(Incomplete::NoWitness { file, position, witness });
            }
            WitnessContents::Missing => return None,
            WitnessContents::Damaged => return Some(Incomplete::WitnessDamaged { file, position, witness }),
            WitnessContents::Valid { witness, .. } => witness,
        };
        if named.epoch != log.epoch {
            return Some(Incomplete::OtherLog { file, epoch: log.epoch, witness, named: named.epoch });
        }
        if named.position > position {
            return Some(Incomplete::Shorter { file, position, witness, named: named.position });
        }
        let is_named = log.hash_at_witness == Some(named.hash);
        (!is_named).then_some(Incomplete::OtherEvent { file, position: named.position, witness })
    }

    /// The position that the witness names.
    pub(super) const fn named_position(&self) -> Position {
        match self.witness {
            WitnessContents::Valid { witness: Witness { position, .. }, .. } => position,
            WitnessContents::Missing | WitnessContents::Damaged => Position(0),
        }
    }
}

/// What the log in `log.db` says of itself.
pub(super) struct LogFound {
    pub(super) epoch: Uuid,
    pub(super) head: Head,
    /// Whether it records that it has a witness.
    pub(super) has_witness: bool,
    /// The hash of the event that the witness names; [`Hash::ZERO`] at the position 0.
    pub(super) hash_at_witness: Option<Hash>,
}

/// The hash of the event at this position.
pub(super) fn hash_at(connection: &Connection, position: Position) -> rusqlite::Result<Option<Hash>> {
    if position == Position(0) {
        return Ok(Some(Hash::ZERO));
    }
    let hash = "SELECT hash FROM events WHERE position = ?";
    connection.query_row(hash, [position.0.cast_signed()], |row| row.get(0).map(Hash)).optional()
}

/// Refuses a write-ahead log that is damaged.
pub(super) fn require_write_ahead_log(dir: &Path, path: &Path) -> Result<(), OpenError> {
    match scan_write_ahead_log(path)?.damage {
        None => Ok(()),
        Some(damage) => Err(OpenError::Incomplete { dir: dir.to_owned(), what: wal_damaged(path, damage) }),
    }
}

fn wal_damaged(path: &Path, damage: WalDamage) -> Incomplete {
    let byte = match damage {
        WalDamage::Header => 0,
        WalDamage::Frame { byte } => byte,
    };
    Incomplete::WriteAheadLogDamaged { file: with_suffix(path, "-wal"), byte }
}

/// Another program may begin the file anew while it is read here. Then its frames don't fit to the header that was read before, so
/// the file is read again.
fn scan_write_ahead_log(path: &Path) -> Result<WalContents, OpenError> {
    let path = with_suffix(path, "-wal");
    let scan = || match File::open(&path) {
        Ok(file) => wal::scan(&mut BufReader::new(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(WalContents::default()),
        Err(error) => Err(error),
    };
    let scan = || scan().map_err(|source| OpenError::Io { path: path.clone(), source });
    let mut found = scan()?;
    for _ in 1..SCANS_MAX {
        let before = found;
        if before.damage.is_none() {
            break;
        }
        found = scan()?;
        if found.header == before.header {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: Witness = Witness { position: Position(5), hash: Hash([5; 32]), epoch: Uuid::from_u128(1) };

    fn files(witness: WitnessContents) -> FilesLeft {
        let wal = WalContents::default();
        FilesLeft { path: "log.db".into(), witness_path: "log.witness".into(), witness, wal, log_is_empty: false }
    }

    fn log(position: u64, hash_at_witness: Option<Hash>) -> LogFound {
        let head = Head { position: Position(position), hash: Hash([9; 32]), time: None };
        LogFound { epoch: NAMED.epoch, head, has_witness: true, hash_at_witness }
    }

    #[test]
    fn a_log_with_the_event_that_the_witness_names_is_complete_however_far_it_reaches() {
        let files = files(WitnessContents::Valid { witness: NAMED, next: 0 });
        for position in [5, 6, 1000] {
            assert_eq!(files.incomplete_log(&log(position, Some(NAMED.hash))), None);
        }
    }

    #[test]
    fn a_log_without_the_event_that_the_witness_names_is_not_complete() {
        let files = files(WitnessContents::Valid { witness: NAMED, next: 0 });
        let shorter = files.incomplete_log(&log(4, None)).unwrap().to_string();
        assert_eq!(shorter, "log.db ends at position 4, and log.witness names position 5");
        let other = files.incomplete_log(&log(6, Some(Hash([1; 32])))).unwrap();
        assert!(matches!(other, Incomplete::OtherEvent { position: Position(5), .. }), "{other}");
        let another = LogFound { epoch: Uuid::from_u128(2), ..log(6, Some(NAMED.hash)) };
        let another = files.incomplete_log(&another).unwrap();
        assert!(matches!(another, Incomplete::OtherLog { .. }), "{another}");
    }

    #[test]
    fn a_witness_may_be_missing_only_if_the_log_never_had_one() {
        let missing = files(WitnessContents::Missing);
        assert!(matches!(missing.incomplete_log(&log(7, None)), Some(Incomplete::NoWitness { .. })));
        assert_eq!(missing.incomplete_log(&LogFound { has_witness: false, ..log(7, None) }), None);
        let damaged = files(WitnessContents::Damaged).incomplete_log(&LogFound { has_witness: false, ..log(7, None) });
        assert!(matches!(damaged, Some(Incomplete::WitnessDamaged { .. })));
    }

    #[test]
    fn a_new_log_takes_the_place_of_no_other_one() {
        assert_eq!(files(WitnessContents::Missing).incomplete_if_new(), None);
        let named = files(WitnessContents::Valid { witness: NAMED, next: 0 }).incomplete_if_new().unwrap();
        assert_eq!(named.to_string(), "log.db holds no log, and log.witness says that there was one");
        let wal = WalContents { committed_bytes: 9, ..WalContents::default() };
        let left = FilesLeft { wal, log_is_empty: true, ..files(WitnessContents::Missing) }.incomplete_files().unwrap();
        assert_eq!(left.to_string(), "log.db holds no log, and log.db-wal says that there was one");
    }
}
