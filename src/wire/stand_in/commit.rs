//! The rules of a write: whether it is executed, was executed before, or is refused.
//!
//! To recognise a repeated write, only the ids of the events are compared, never their data. With an exact expected revision
//! or `NoStream`, the ids are compared with those of the events after that revision. With `Any` or `StreamExists`, they are
//! looked up among the recent ids.

use uuid::Uuid;

use super::super::backend::{AppendSuccess, StreamDeletion, WireAppend};
use super::super::event::{ExpectedRevision, WirePosition};
use super::super::refusal::Refusal;
use super::contents::DatabaseContents;
use super::metadata::{is_soft_deleted, metadata_stream, soft_delete, undelete};
use crate::clock::new_id;

/// The decision about a write.
enum Decision {
    Write,
    /// The write was executed before; its last event has this revision.
    Repeated(u64),
    WrongRevision,
    StreamDeleted,
}

/// Writes the events. If they were written before, repeats the first response.
pub(super) fn append(contents: &mut DatabaseContents, append: WireAppend) -> Result<AppendSuccess, Refusal> {
    let WireAppend { stream, expected, events } = append;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    if let Some(last) = check_write(contents, &stream, expected, &ids)? {
        return Ok(repeated_success(contents, &stream, last));
    }
    let was_deleted = is_soft_deleted(contents, &stream);
    let original = stream.strip_prefix("$$").filter(|original| is_soft_deleted(contents, original)).map(str::to_owned);
    let first = contents.last_revision(&stream).map_or(0, |last| last + 1);
    let mut position = None;
    for event in events {
        position = Some(contents.push(&stream, event));
    }
    let position = position.unwrap_or_else(|| contents.push_empty_record(&stream));
    let revision = contents.last_revision(&stream);
    if was_deleted {
        undelete(contents, &stream, first);
    }
    if let Some(original) = original {
        // New metadata for a soft-deleted stream ends the deletion. The old events stay hidden.
        let first = contents.last_revision(&original).map_or(0, |last| last + 1);
        undelete(contents, &original, first);
    }
    Ok(AppendSuccess { revision, position })
}

/// Deletes the stream, softly or permanently.
pub(super) fn delete(contents: &mut DatabaseContents, delete: &StreamDeletion) -> Result<WirePosition, Refusal> {
    let stream = &delete.stream;
    check_write(contents, stream, delete.expected, &[new_id()])?;
    Ok(if delete.is_permanent { contents.push_tombstone(stream) } else { soft_delete(contents, stream) })
}

fn repeated_success(contents: &DatabaseContents, stream: &str, last: u64) -> AppendSuccess {
    let event = contents.stream(stream).iter().find(|event| event.revision == last);
    let position = event.map_or(WirePosition::single(0), |event| event.position);
    AppendSuccess { revision: Some(last), position }
}

/// Checks whether the write may be executed. Returns `None` if it may, and the revision of its last event if it was executed
/// before.
fn check_write(
    contents: &DatabaseContents,
    stream: &str,
    expected: ExpectedRevision,
    ids: &[Uuid],
) -> Result<Option<u64>, Refusal> {
    match decide_write(contents, stream, expected, ids) {
        Decision::Write => Ok(None),
        Decision::Repeated(last) => Ok(Some(last)),
        Decision::StreamDeleted => Err(Refusal::StreamDeleted(stream.to_owned())),
        Decision::WrongRevision => Err(Refusal::WrongExpectedRevision {
            stream: stream.to_owned(),
            expected,
            current: contents.last_revision(stream),
        }),
    }
}

fn decide_write(contents: &DatabaseContents, stream: &str, expected: ExpectedRevision, ids: &[Uuid]) -> Decision {
    if contents.is_tombstoned(stream) {
        return Decision::StreamDeleted;
    }
    let current = contents.last_revision(stream);
    match expected {
        ExpectedRevision::Any => decide_by_recent_ids(contents, stream, ids),
        ExpectedRevision::StreamExists if is_soft_deleted(contents, stream) => Decision::StreamDeleted,
        ExpectedRevision::StreamExists => {
            let exists = current.is_some() || contents.last_revision(&metadata_stream(stream)).is_some();
            if exists { decide_by_recent_ids(contents, stream, ids) } else { Decision::WrongRevision }
        }
        ExpectedRevision::NoStream => decide_by_exact_revision(contents, stream, None, ids),
        ExpectedRevision::Exact(revision) => decide_by_exact_revision(contents, stream, Some(revision), ids),
    }
}

/// The decision for an expected revision that is not exact. If all ids are known, the write is a repetition. If the first id
/// is unknown, the write is executed. If only later ids are unknown, it is refused.
fn decide_by_recent_ids(contents: &DatabaseContents, stream: &str, ids: &[Uuid]) -> Decision {
    let mut last = None;
    for (index, id) in ids.iter().enumerate() {
        match contents.recent_revision(stream, *id) {
            Some(revision) => last = Some(revision),
            None if index == 0 => return Decision::Write,
            None => return Decision::WrongRevision,
        }
    }
    last.map_or(Decision::Write, Decision::Repeated)
}

/// The decision for an exact expected revision. `expected` is `None` if the writer expects a stream without events.
fn decide_by_exact_revision(
    contents: &DatabaseContents,
    stream: &str,
    expected: Option<u64>,
    ids: &[Uuid],
) -> Decision {
    let current = contents.last_revision(stream);
    if expected == current {
        return Decision::Write;
    }
    if expected > current || ids.is_empty() {
        return Decision::WrongRevision;
    }
    let first = expected.map_or(0, |revision| revision + 1);
    let mut last = first;
    for (id, revision) in ids.iter().zip(first..) {
        let written = usize::try_from(revision).ok().and_then(|index| contents.stream(stream).get(index));
        if written.is_none_or(|event| event.id != *id) {
            // A soft-deleted stream can be begun again, although it still has its old events.
            let begins_anew = revision == first && expected.is_none() && is_soft_deleted(contents, stream);
            return if begins_anew { Decision::Write } else { Decision::WrongRevision };
        }
        last = revision;
    }
    Decision::Repeated(last)
}
