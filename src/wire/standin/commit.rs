//! The rules of a write: whether it is carried out, was carried out before, or is refused.
//!
//! Only ids of events are compared, never what they hold. At an exact revision or at `NoStream` they are compared with the
//! events that follow that revision, however old. At `Any` and `StreamExists` they are looked up among the recent ids.

use uuid::Uuid;

use super::super::backend::{Delete, WireAppend, Written};
use super::super::event::{ExpectedRevision, WirePosition};
use super::super::refusal::Refusal;
use super::metadata::{is_soft_deleted, metadata_stream, soft_delete, undelete};
use super::streams::Data;
use crate::clock::new_id;

/// What a write comes to.
enum Decision {
    Write,
    /// It was carried out before; its last event has this revision.
    Repeated(u64),
    WrongRevision,
    StreamDeleted,
}

/// Writes the events, or finds that they were written before.
pub(super) fn append(data: &mut Data, append: WireAppend) -> Result<Written, Refusal> {
    let WireAppend { stream, expected, events } = append;
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    if let Some(last) = check(data, &stream, expected, &ids)? {
        return Ok(repeated(data, &stream, last));
    }
    let was_deleted = is_soft_deleted(data, &stream);
    let original = stream.strip_prefix("$$").filter(|original| is_soft_deleted(data, original)).map(str::to_owned);
    let first = data.last_revision(&stream).map_or(0, |last| last + 1);
    let mut position = None;
    for event in events {
        position = Some(data.push(&stream, event));
    }
    let position = position.unwrap_or_else(|| data.push_empty_record(&stream));
    let revision = data.last_revision(&stream);
    if was_deleted {
        undelete(data, &stream, first);
    }
    if let Some(original) = original {
        // New metadata of a soft-deleted stream: the stream is there again, without its old events.
        let first = data.last_revision(&original).map_or(0, |last| last + 1);
        undelete(data, &original, first);
    }
    Ok(Written { revision, position })
}

/// Ends the stream, softly or for ever.
pub(super) fn delete(data: &mut Data, delete: &Delete) -> Result<WirePosition, Refusal> {
    let stream = &delete.stream;
    check(data, stream, delete.expected, &[new_id()])?;
    Ok(if delete.is_permanent { data.push_tombstone(stream) } else { soft_delete(data, stream) })
}

fn repeated(data: &Data, stream: &str, last: u64) -> Written {
    let event = data.stream(stream).iter().find(|event| event.revision == last);
    let position = event.map_or(WirePosition::single(0), |event| event.position);
    Written { revision: Some(last), position }
}

/// None where the write is to be carried out; the revision of its last event where it was carried out before.
fn check(data: &Data, stream: &str, expected: ExpectedRevision, ids: &[Uuid]) -> Result<Option<u64>, Refusal> {
    match decide(data, stream, expected, ids) {
        Decision::Write => Ok(None),
        Decision::Repeated(last) => Ok(Some(last)),
        Decision::StreamDeleted => Err(Refusal::StreamDeleted(stream.to_owned())),
        Decision::WrongRevision => Err(Refusal::WrongExpectedRevision {
            stream: stream.to_owned(),
            expected,
            current: data.last_revision(stream),
        }),
    }
}

fn decide(data: &Data, stream: &str, expected: ExpectedRevision, ids: &[Uuid]) -> Decision {
    if data.is_tombstoned(stream) {
        return Decision::StreamDeleted;
    }
    let current = data.last_revision(stream);
    match expected {
        ExpectedRevision::Any => decide_by_recent_ids(data, stream, ids),
        ExpectedRevision::StreamExists if is_soft_deleted(data, stream) => Decision::StreamDeleted,
        ExpectedRevision::StreamExists => {
            let exists = current.is_some() || data.last_revision(&metadata_stream(stream)).is_some();
            if exists { decide_by_recent_ids(data, stream, ids) } else { Decision::WrongRevision }
        }
        ExpectedRevision::NoStream => decide_at(data, stream, None, ids),
        ExpectedRevision::Exact(revision) => decide_at(data, stream, Some(revision), ids),
    }
}

/// All ids known: repeated. The first one unknown: written. A mix is refused.
fn decide_by_recent_ids(data: &Data, stream: &str, ids: &[Uuid]) -> Decision {
    let mut last = None;
    for (index, id) in ids.iter().enumerate() {
        match data.recent_revision(stream, *id) {
            Some(revision) => last = Some(revision),
            None if index == 0 => return Decision::Write,
            None => return Decision::WrongRevision,
        }
    }
    last.map_or(Decision::Write, Decision::Repeated)
}

/// `expected` is the last revision as the writer knows it; none for a stream without events.
fn decide_at(data: &Data, stream: &str, expected: Option<u64>, ids: &[Uuid]) -> Decision {
    let current = data.last_revision(stream);
    if expected == current {
        return Decision::Write;
    }
    if expected > current || ids.is_empty() {
        return Decision::WrongRevision;
    }
    let first = expected.map_or(0, |revision| revision + 1);
    let mut last = first;
    for (id, revision) in ids.iter().zip(first..) {
        let written = usize::try_from(revision).ok().and_then(|index| data.stream(stream).get(index));
        if written.is_none_or(|event| event.id != *id) {
            let begins_anew = revision == first && expected.is_none() && is_soft_deleted(data, stream);
            return if begins_anew { Decision::Write } else { Decision::WrongRevision };
        }
        last = revision;
    }
    Decision::Repeated(last)
}
