//! The tables of the log's file, in format 2.
//!
//! An event is one row of `events`. The row holds what the event's hash covers ([`crate::store::chain`]), each text only once:
//!
//! | column | value |
//! |---|---|
//! | `stream` | the position of the stream's first event; this number stands for the stream |
//! | `name` | in the first event of a stream: the UUID of the task, or the stream's name as text if it is no task |
//! | `type` | a row of `types`: the type and the version |
//! | `actor` | a row of `actors`: the members `actor` and `via` of `meta` |
//! | `correlation_id` | this member of `meta`; null if it is the same as in the first event of the stream |
//! | `causation_id` | this member of `meta`; 0 if it is the id of the first event of the stream |
//! | `request_id` | this member of `meta`; a blob if it is a UUID |
//! | `meta` | the text of `meta`, only if the columns don't give exactly this text; then they are null |
//!
//! The view `log_as_text` shows the events as the API does, so that any program for `SQLite` can read the log.

use rusqlite::{Connection, OptionalExtension, params};

use crate::store::new_id;

/// The bit of the `user_version` in the header of the file that says that the log has a witness. The other bits are the checksum of
/// the log's id. In the file of an earlier version all are 0.
const HAS_WITNESS: i32 = 1;
/// "tbel" in ASCII. This application id in the header of the file marks it as a log of Taskbell.
pub(super) const APPLICATION_ID: i64 = 0x7462_656c;
/// Version of the tables below.
pub(super) const FORMAT: i64 = 2;
/// The size of a page in bytes. On a smaller page, the space that the next row doesn't fit in is a larger part of the page. On a
/// larger one, a commit of few events writes more.
const PAGE_SIZE: i64 = 8192;

/// SQL for the text of a UUID.
macro_rules! uuid_text {
    ($blob:literal) => {
        concat!(
            "lower(substr(hex(",
            $blob,
            "), 1, 8) || '-' || substr(hex(",
            $blob,
            "), 9, 4) || '-' || substr(hex(",
            $blob,
            "), 13, 4) || '-' || substr(hex(",
            $blob,
            "), 17, 4) || '-' || substr(hex(",
            $blob,
            "), 21))"
        )
    };
}

/// SQL that refuses to change or delete rows of a table.
macro_rules! only_appended_to {
    ($table:literal) => {
        concat!(
            "CREATE TRIGGER IF NOT EXISTS ",
            $table,
            "_are_not_changed BEFORE UPDATE ON ",
            $table,
            " BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;\n",
            "CREATE TRIGGER IF NOT EXISTS ",
            $table,
            "_are_not_deleted BEFORE DELETE ON ",
            $table,
            " BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;\n"
        )
    };
}

/// SQL that refuses a row where another one is already. Without it, `INSERT OR REPLACE` deletes that one, and no trigger for
/// deletes runs.
macro_rules! not_replaced {
    ($table:literal, $is_there:literal) => {
        concat!(
            "CREATE TRIGGER IF NOT EXISTS ",
            $table,
            "_are_not_replaced BEFORE INSERT ON ",
            $table,
            " WHEN EXISTS (SELECT 1 FROM ",
            $table,
            " WHERE ",
            $is_there,
            ") BEGIN SELECT RAISE(ABORT, 'the log is only appended to'); END;\n"
        )
    };
}

/// The column `only` is the constant key 1, so that the table `log` has only one row. The two indexes of `events` together hold
/// each revision of each stream once.
const TABLES: &str = "
CREATE TABLE log (only INTEGER PRIMARY KEY CHECK (only = 1), format INTEGER NOT NULL, epoch TEXT NOT NULL) STRICT;
CREATE TABLE types (
    id INTEGER PRIMARY KEY,
    type TEXT NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (type, version)
) STRICT;
CREATE TABLE actors (
    id INTEGER PRIMARY KEY,
    actor TEXT NOT NULL,
    via TEXT NOT NULL,
    UNIQUE (actor, via)
) STRICT;
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    name ANY,
    id BLOB NOT NULL,
    type INTEGER NOT NULL,
    time INTEGER NOT NULL,
    actor INTEGER,
    correlation_id BLOB,
    causation_id ANY,
    request_id ANY,
    meta TEXT,
    data TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX first_events ON events (name) WHERE name IS NOT NULL;
CREATE UNIQUE INDEX next_events ON events (stream, revision) WHERE revision > 0;
";

/// What other programs may not do; the connection that writes runs no triggers. An event must have the next position.
const TRIGGERS: &str = concat!(
    only_appended_to!("log"),
    only_appended_to!("types"),
    only_appended_to!("actors"),
    only_appended_to!("events"),
    not_replaced!("log", "true"),
    not_replaced!("types", "id = NEW.id OR (type = NEW.type AND version = NEW.version)"),
    not_replaced!("actors", "id = NEW.id OR (actor = NEW.actor AND via = NEW.via)"),
    "CREATE TRIGGER IF NOT EXISTS events_are_not_replaced BEFORE INSERT ON events BEGIN
    SELECT RAISE(ABORT, 'the log is only appended to')
        WHERE NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM events)
        OR EXISTS (SELECT 1 FROM events WHERE name = NEW.name)
        OR (NEW.revision > 0 AND EXISTS (
            SELECT 1 FROM events WHERE stream = NEW.stream AND revision > 0 AND revision = NEW.revision));
END;
"
);
const TRIGGER_COUNT: i64 = 12;

/// A time before 1970 has negative microseconds: both parts are computed from the second before it.
const VIEW: &str = concat!(
    "
CREATE VIEW log_as_text AS SELECT
    events.position,
    CASE typeof(first.name) WHEN 'blob' THEN 'task-' || ",
    uuid_text!("first.name"),
    " ELSE first.name END AS stream,
    events.revision,
    ",
    uuid_text!("events.id"),
    " AS id,
    types.type,
    types.version,
    strftime('%Y-%m-%dT%H:%M:%S', (events.time - (events.time % 1000000 + 1000000) % 1000000) / 1000000, 'unixepoch')
        || format('.%06dZ', (events.time % 1000000 + 1000000) % 1000000) AS time,
    coalesce(events.meta, '{\"actor\":\"' || actors.actor || '\",\"via\":\"' || actors.via
        || '\",\"correlation_id\":\"' || ",
    uuid_text!("coalesce(events.correlation_id, first.correlation_id)"),
    "
        || '\",\"causation_id\":' || CASE typeof(events.causation_id) WHEN 'null' THEN 'null'
            WHEN 'integer' THEN '\"' || ",
    uuid_text!("first.id"),
    " || '\"'
            ELSE '\"' || ",
    uuid_text!("events.causation_id"),
    " || '\"' END
        || ',\"request_id\":' || CASE typeof(events.request_id) WHEN 'null' THEN 'null' WHEN 'text'
            THEN '\"' || events.request_id || '\"' ELSE '\"' || ",
    uuid_text!("events.request_id"),
    " || '\"' END
        || '}') AS meta,
    events.data,
    lower(hex(events.hash)) AS hash
FROM events
LEFT JOIN events AS first ON first.position = events.stream
LEFT JOIN types ON types.id = events.type
LEFT JOIN actors ON actors.id = events.actor
ORDER BY events.position;
"
);

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileContents {
    /// It has no tables.
    Nothing,
    /// A log in this format.
    Log(i64),
    /// A database of another program.
    Other,
}

/// Says what the file is.
pub(super) fn contents(connection: &Connection) -> rusqlite::Result<FileContents> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (application, tables) {
        (0, 0) => Ok(FileContents::Nothing),
        (APPLICATION_ID, _) => {
            let format = connection.query_row("SELECT format FROM log", [], |row| row.get(0)).optional()?;
            Ok(format.map_or(FileContents::Other, FileContents::Log))
        }
        _ => Ok(FileContents::Other),
    }
}

/// Creates the tables of a new log.
pub(super) fn create_log(connection: &mut Connection) -> rusqlite::Result<()> {
    create_log_with_epoch(connection, &new_id().to_string())
}

/// Creates the tables of a log with this id.
pub(super) fn create_log_with_epoch(connection: &mut Connection, epoch: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    let creation = connection.transaction()?;
    creation.execute_batch(TABLES)?;
    creation.execute_batch(TRIGGERS)?;
    creation.execute_batch(VIEW)?;
    creation.execute("INSERT INTO log VALUES (1, ?, ?)", params![FORMAT, epoch])?;
    bind_epoch(&creation, epoch)?;
    creation.pragma_update(None, "application_id", APPLICATION_ID)?;
    creation.commit()
}

/// Adds what an earlier version of Taskbell has not written: triggers, and the checksum of the id. Writes nothing if nothing is
/// missing.
pub(super) fn complete(connection: &Connection, epoch: &str) -> rusqlite::Result<()> {
    let triggers = "SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'";
    if connection.query_row(triggers, [], |row| row.get::<_, i64>(0))? < TRIGGER_COUNT {
        connection.execute_batch(TRIGGERS)?;
    }
    if stored_checksum(connection)? == 0 { bind_epoch(connection, epoch) } else { Ok(()) }
}

/// Whether the log's id is the one that was written. True for a log that holds no checksum yet.
pub(super) fn epoch_is_unchanged(connection: &Connection, epoch: &str) -> rusqlite::Result<bool> {
    let stored = stored_checksum(connection)?;
    Ok(stored == 0 || stored & !HAS_WITNESS == checksum(epoch))
}

/// Writes the checksum of the log's id. The chain of hashes doesn't cover the id.
pub(super) fn bind_epoch(connection: &Connection, epoch: &str) -> rusqlite::Result<()> {
    let has_witness = stored_checksum(connection)? & HAS_WITNESS;
    connection.pragma_update(None, "user_version", checksum(epoch) | has_witness)
}

/// The checksum of the log's id, and whether the log has a witness. They are in the header of the file; 0 if an earlier version of
/// Taskbell has written the log.
fn stored_checksum(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// A checksum that is never 0, and whose bit [`HAS_WITNESS`] is.
fn checksum(epoch: &str) -> i32 {
    let [a, b, c, d, ..] = *blake3::hash(epoch.as_bytes()).as_bytes();
    let sum = i32::from_be_bytes([a, b, c, d]).checked_abs().map_or(0, |sum| sum & !HAS_WITNESS);
    sum.max(2)
}

/// Whether the log has a witness, so that its file must not be missing.
pub(super) fn has_witness(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(stored_checksum(connection)? & HAS_WITNESS != 0)
}

/// Records that the log has a witness. The file of the witness must be durable.
pub(super) fn record_witness(connection: &Connection, epoch: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", checksum(epoch) | HAS_WITNESS)
}

/// Gives the log another id, although its triggers refuse changes.
pub(super) fn replace_epoch(connection: &mut Connection, epoch: &str) -> rusqlite::Result<()> {
    let change = connection.transaction()?;
    let triggers = {
        let mut query =
            change.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = 'log'")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        rows.collect::<rusqlite::Result<Vec<_>>>()?
    };
    for (name, _) in &triggers {
        change.execute_batch(&format!("DROP TRIGGER \"{name}\""))?;
    }
    change.execute("UPDATE log SET epoch = ?", [epoch])?;
    for (_, sql) in &triggers {
        change.execute_batch(sql)?;
    }
    bind_epoch(&change, epoch)?;
    change.commit()
}
