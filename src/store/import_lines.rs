//! Makes a log of its lines, as `GET /v1/log` and `taskbell log export` write them: the same events, so the same positions and
//! hashes. The new log has another id (epoch), so that no client takes its positions for those of the old one.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{AppendError, EncodedAppend, EventStore, Hash, OpenError, ReadError, Recorded};
use crate::task::Position;

/// The largest number of lines in one write.
const LINES_MAX: usize = 2000;
/// The folder below the data folder in which the log is made.
const UNFINISHED: &str = "importing";
/// The file of a log.
const LOG_FILE: &str = "log.db";

/// Why no log was made.
#[derive(Debug, thiserror::Error)]
pub enum ImportLinesError {
    /// The folder has a log already.
    #[error("{} has a log already: a log is imported into an empty folder only", .0.display())]
    NotEmpty(PathBuf),
    /// The new log can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A line can't be read.
    #[error("line {line}: {error}")]
    Input {
        /// The number of the line, from 1.
        line: u64,
        /// Why.
        error: io::Error,
    },
    /// A line is not the next event of the log.
    #[error("line {line}: {reason}")]
    Line {
        /// The number of the line, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// The new log can't be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A file or a folder can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A log that was made of its lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportedLines {
    /// Position of the last event.
    pub position: Position,
    /// Hash of the last event.
    pub hash: Hash,
}

/// Makes a log in this data folder. Each line must be the event after the one before, from position 1, and continue the chain of
/// hashes. `report` is called with the position that is durable.
///
/// The log is made in a folder of its own and then moved, so a log that is not complete is never taken for a whole one. The
/// next import removes what an interrupted one has left.
///
/// # Errors
/// See [`ImportLinesError`]. The data folder has no log then.
pub async fn import_lines(
    data: &Path,
    lines: impl Iterator<Item = io::Result<String>>,
    report: &mut (dyn FnMut(Position) + Send),
) -> Result<ImportedLines, ImportLinesError> {
    if data.join(LOG_FILE).exists() {
        return Err(ImportLinesError::NotEmpty(data.to_owned()));
    }
    let unfinished = data.join(UNFINISHED);
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let log = EventStore::open(&unfinished)?;
    let imported = write_lines(&log, lines, report).await;
    // The log's file is complete when the log is closed.
    drop(log);
    match imported {
        Ok(imported) => move_log(&unfinished, data).map(|()| imported),
        Err(error) => {
            fs::remove_dir_all(&unfinished)?;
            Err(error)
        }
    }
}

async fn write_lines(
    log: &EventStore,
    lines: impl Iterator<Item = io::Result<String>>,
    report: &mut (dyn FnMut(Position) + Send),
) -> Result<ImportedLines, ImportLinesError> {
    let (mut hash, mut events) = (Hash::ZERO, Vec::with_capacity(LINES_MAX));
    let mut position = Position(0);
    for (line, text) in (1..).zip(lines) {
        let text = text.map_err(|error| ImportLinesError::Input { line, error })?;
        let event = next_event(&text, position, hash).map_err(|reason| ImportLinesError::Line { line, reason })?;
        (position, hash) = (event.position, event.hash);
        events.push(Arc::new(event));
        if events.len() == LINES_MAX {
            write(log, &events).await?;
            events.clear();
            report(position);
        }
    }
    write(log, &events).await?;
    let head = log.head();
    if (head.position, head.hash) != (position, hash) {
        return Err(AppendError::Unknown("the log that was written is not the one that was read".to_owned()).into());
    }
    Ok(ImportedLines { position, hash })
}

/// The event of this line, which must follow the position and the hash.
fn next_event(text: &str, position: Position, hash: Hash) -> Result<Recorded, String> {
    let event = Recorded::from_json(text).map_err(|error: ReadError| error.to_string())?;
    let next = Position(position.0 + 1);
    if event.position != next {
        return Err(format!(
            "event {} stands where event {next} is needed; the export must begin at position 1",
            event.position
        ));
    }
    if event.expected_hash(hash) != event.hash {
        return Err(format!(
            "event {next} doesn't continue the chain of hashes: it was changed, or an auditor has exported it"
        ));
    }
    Ok(event)
}

/// Writes the events in one transaction, each run of events of one stream as one append.
async fn write(log: &EventStore, events: &[Arc<Recorded>]) -> Result<(), ImportLinesError> {
    let runs = events.chunk_by(|one, next| one.stream == next.stream);
    let appends = runs.filter_map(EncodedAppend::from_recorded).collect();
    for result in log.append_encoded(appends).await {
        result?;
    }
    Ok(())
}

/// Moves the files of the log. The log's own file comes last: before it, the data folder has no log.
fn move_log(from: &Path, to: &Path) -> Result<(), ImportLinesError> {
    let others = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    let is_moved = |name: &std::ffi::OsStr| name != "lock" && name != LOG_FILE;
    for name in others.iter().map(fs::DirEntry::file_name).filter(|name| is_moved(name)) {
        fs::rename(from.join(&name), to.join(&name))?;
    }
    File::open(to)?.sync_all()?;
    fs::rename(from.join(LOG_FILE), to.join(LOG_FILE))?;
    File::open(to)?.sync_all()?;
    fs::remove_dir_all(from)?;
    Ok(())
}
