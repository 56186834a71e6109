//! Checks the log of a stopped server: every event, the order of the events, the indexes, and the end of the log.
//!
//! An event is right if its hash follows from it and from the hash of the event before it. The stored hash of that event may itself
//! have been changed, so the hash that was computed for it counts as well. So one changed event is one fault.

use std::path::{Path, PathBuf};

use super::folder::lock_folder;
use super::indexes::IndexEntries;
use super::open::{open_error, other_format};
use super::read::{ReadConnection, SELECT_RANGE, read_error};
use super::schema::{self, FORMAT, FileContents};
use super::stored_event::HashBuffers;
use super::write_connection::sqlite_integer;
use crate::store::{Hash, OpenError, ReadError};
use crate::task::Position;

/// The largest number of faults that are described. All are counted.
const FAULTS_MAX: usize = 100;
/// The number of events between two reports.
const REPORT_EVENTS: u64 = 10_000;

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyRange {
    /// The first position, at least 1.
    pub from: Position,
    /// The last position; `None` for the end of the log.
    pub to: Option<Position>,
    /// A position and its hash, which were noted earlier at another place. The log must still have both.
    pub head: Option<(Position, Hash)>,
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The number of events that were read.
    pub events: u64,
    /// The position of the last event of the log.
    pub position: Position,
    /// The hash of the last event of the log.
    pub hash: Hash,
    /// What is wrong, in the order of the positions; at most 100. Empty if the log is as it was written.
    pub faults: Vec<LogFault>,
    /// The number of all faults.
    pub fault_count: u64,
}

/// Something in the log that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFault {
    /// Where it was noticed.
    pub position: Position,
    /// A sentence that names the position.
    pub what: String,
}

/// Why a log was not checked.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The log can't be opened, for example because a server uses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log can't be read at all.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The folder contains no log.
    #[error("{0}: the folder contains no log")]
    NoLog(PathBuf),
    /// The log has no such positions.
    #[error("the range begins at position {from}, and the log ends at position {end}")]
    Beyond {
        /// The first position that was asked for.
        from: Position,
        /// The position of the last event.
        end: Position,
    },
}

/// Checks the log in this folder, in the present format. It is only read. Calls `report` from time to time with the position up to
/// which it was checked, and with the last one.
///
/// # Errors
/// See [`VerifyError`]. Faults of the log are no error, unless it can't be opened.
pub fn verify_log(
    dir: &Path,
    range: VerifyRange,
    report: &mut dyn FnMut(Position, Position),
) -> Result<Verified, VerifyError> {
    let path = dir.join("log.db");
    if !path.is_file() {
        return Err(VerifyError::NoLog(dir.to_owned()));
    }
    let _lock = lock_folder(dir)?;
    let reader = ReadConnection::open(&path)?;
    let mut faults = Faults::default();
    check_header(&reader, &path, &mut faults)?;
    let (end, hash) = reader.stored_end()?;
    let to = range.to.map_or(end, |to| to.min(end));
    if range.from > to && end > Position(0) {
        return Err(VerifyError::Beyond { from: range.from, end });
    }
    if let Some((position, hash)) = range.head {
        check_head(&reader, (position, hash), end, &mut faults)?;
    }
    let mut pass = Pass::new(&reader, range.from, to, faults)?;
    pass.run(report)?;
    if range.from == Position(1) && to == end && pass.faults.count == 0 {
        pass.check_indexes()?;
    }
    let Pass { events, faults: Faults { mut list, count }, .. } = pass;
    list.sort_by_key(|fault| fault.position);
    Ok(Verified { events, position: end, hash, faults: list, fault_count: count })
}

#[derive(Default)]
struct Faults {
    list: Vec<LogFault>,
    count: u64,
}

impl Faults {
    fn add(&mut self, position: Position, what: String) {
        self.count += 1;
        if self.list.len() < FAULTS_MAX {
            self.list.push(LogFault { position, what });
        }
    }
}

/// Checks that the file is a log of the present format, and that its id has not changed.
fn check_header(reader: &ReadConnection, path: &Path, faults: &mut Faults) -> Result<(), VerifyError> {
    let to_open_error = |error: rusqlite::Error| open_error(path, &error);
    match schema::contents(&reader.connection).map_err(to_open_error)? {
        FileContents::Log(FORMAT) => {}
        FileContents::Nothing => return Err(VerifyError::NoLog(path.parent().unwrap_or(path).to_owned())),
        FileContents::Log(found) => return Err(other_format(path, found).into()),
        FileContents::Other => return Err(OpenError::NotALog(path.to_owned()).into()),
    }
    let epoch: rusqlite::Result<String> = reader.connection.query_row("SELECT epoch FROM log", [], |row| row.get(0));
    let epoch = epoch.map_err(to_open_error)?;
    if !schema::epoch_is_unchanged(&reader.connection, &epoch).map_err(to_open_error)? {
        faults.add(Position(0), "the id of the log (epoch), or its checksum, has changed".to_owned());
    }
    Ok(())
}

/// Checks that the log still has this position with this hash.
fn check_head(
    reader: &ReadConnection,
    (position, hash): (Position, Hash),
    end: Position,
    faults: &mut Faults,
) -> Result<(), ReadError> {
    if position > end {
        let what = format!("the log ends at position {end}, and its head was at position {position}: its end is lost");
        faults.add(Position(end.0 + 1), what);
        return Ok(());
    }
    let found = reader.stored_hash(position)?;
    if found != Some(hash) {
        let found = found.map_or_else(|| "none".to_owned(), |found| found.to_string());
        let what = format!("event {position} has the hash {found}, and not that of the head: {hash}");
        faults.add(position, what);
    }
    Ok(())
}

/// One pass over the events of a range.
struct Pass<'a> {
    reader: &'a ReadConnection,
    to: Position,
    /// The position of the last event that was read.
    last: Position,
    /// Its hash as it is stored, and as it was computed; `None` if unknown.
    hashes: [Option<Hash>; 2],
    entries: IndexEntries,
    events: u64,
    faults: Faults,
}

impl<'a> Pass<'a> {
    fn new(reader: &'a ReadConnection, from: Position, to: Position, faults: Faults) -> Result<Self, ReadError> {
        let last = Position(from.0.saturating_sub(1));
        let hashes = [reader.stored_hash(last)?, reader.computed_hash(last, &mut HashBuffers::default())];
        Ok(Self { reader, to, last, hashes, entries: IndexEntries::default(), events: 0, faults })
    }

    fn run(&mut self, report: &mut dyn FnMut(Position, Position)) -> Result<(), ReadError> {
        let mut buffers = HashBuffers::default();
        let mut query = self.reader.prepare(SELECT_RANGE)?;
        let range = [sqlite_integer(self.last.0), sqlite_integer(self.to.0), -1];
        let mut rows = query.query(range).map_err(|error| read_error(&error))?;
        loop {
            match rows.next() {
                Ok(Some(row)) => self.check(row, &mut buffers),
                Ok(None) => break,
                Err(error) => {
                    let next = Position(self.last.0 + 1);
                    self.faults.add(next, format!("the events from position {next} on can't be read: {error}"));
                    return Ok(());
                }
            }
            if self.last.0.is_multiple_of(REPORT_EVENTS) {
                report(self.last, self.to);
            }
        }
        if self.last < self.to {
            self.add_missing(self.to);
        }
        report(self.to, self.to);
        Ok(())
    }

    /// Checks the event of this row.
    fn check(&mut self, row: &rusqlite::Row<'_>, buffers: &mut HashBuffers) {
        self.events += 1;
        let position = Position(row.get::<_, i64>(0).map_or(0, i64::cast_unsigned));
        if position.0 <= self.last.0 {
            self.faults.add(position, format!("event {position} comes after event {}", self.last));
            return;
        }
        if position.0 > self.last.0 + 1 {
            self.add_missing(Position(position.0 - 1));
            self.hashes = [None, None];
        }
        self.last = position;
        let found = row.get(13).ok().map(Hash);
        let event = match self.reader.event_without_hash(row) {
            Ok(event) => event,
            Err(error) => {
                self.faults.add(position, without_prefix(error));
                self.hashes = [found, None];
                return;
            }
        };
        self.entries.add(&event);
        let [stored, computed] = self.hashes.map(|before| before.map(|before| event.hash_after(before, buffers)));
        let is_known = stored.is_some() || computed.is_some();
        if found.is_none() || (is_known && stored != found && computed != found) {
            let what = format!(
                "event {position} doesn't continue the chain: it was changed or inserted, or events before it were dropped or \
                 reordered"
            );
            self.faults.add(position, what);
        }
        self.hashes = [found, stored.or(computed).filter(|hash| Some(*hash) != found)];
    }

    /// Notes that the events after the last one up to this position are missing.
    fn add_missing(&mut self, upto: Position) {
        let first = Position(self.last.0 + 1);
        let what = if first == upto {
            format!("event {first} is missing")
        } else {
            format!("the events {first} to {upto} are missing")
        };
        self.faults.add(first, what);
    }

    fn check_indexes(&mut self) -> Result<(), ReadError> {
        match self.reader.check_indexes(self.to, self.entries) {
            Err(ReadError::Damaged(what)) => self.faults.add(self.to, what),
            checked => checked?,
        }
        Ok(())
    }
}

/// What the error says about the event.
fn without_prefix(error: ReadError) -> String {
    match error {
        ReadError::Damaged(what) => what,
        other @ (ReadError::Unavailable(_) | ReadError::Unknown { .. }) => other.to_string(),
    }
}
