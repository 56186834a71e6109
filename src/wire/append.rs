//! The method `Append`: one append to one stream. The client sends the options and then the events, and gets one response.

use std::collections::HashMap;
use std::sync::Arc;

use prost::bytes::Bytes;
use tonic::{Status, Streaming};

use super::backend::{AppendSuccess, ReceivedEvent, WireAppend};
use super::event::{ExpectedRevision, parse_id};
use super::proto::shared::{Empty, Uuid};
use super::proto::streams::append_req::Content;
use super::proto::streams::append_req::options::ExpectedStreamRevision;
use super::proto::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use super::proto::streams::append_resp::wrong_expected_version::{
    CurrentRevisionOption as Current, CurrentRevisionOption2060 as OldCurrent, ExpectedRevisionOption as Expected,
    ExpectedRevisionOption2060 as OldExpected,
};
use super::proto::streams::append_resp::{Position, Result as AppendResult, Success, WrongExpectedVersion};
use super::proto::streams::{AppendReq, AppendResp};
use super::refusal::Refusal;
use super::request::{missing, stream_name};

/// The largest append, in bytes.
pub(super) const APPEND_MAX: usize = 1024 * 1024;

/// Receives all messages of one append.
pub(super) async fn receive_append(mut messages: Streaming<AppendReq>) -> Result<WireAppend, Status> {
    let Some(Content::Options(options)) = messages.message().await?.and_then(|message| message.content) else {
        return Err(missing("options").into());
    };
    let expected = match options.expected_stream_revision {
        Some(ExpectedStreamRevision::Revision(revision)) => ExpectedRevision::Exact(revision),
        Some(ExpectedStreamRevision::NoStream(_)) => ExpectedRevision::NoStream,
        Some(ExpectedStreamRevision::StreamExists(_)) => ExpectedRevision::StreamExists,
        Some(ExpectedStreamRevision::Any(_)) => ExpectedRevision::Any,
        None => return Err(missing("expected_stream_revision").into()),
    };
    let mut append = WireAppend { stream: stream_name(options.stream_identifier)?, expected, events: Vec::new() };
    let mut size = 0;
    while let Some(message) = messages.message().await? {
        let Some(Content::ProposedMessage(message)) = message.content else {
            return Err(missing("proposed_message").into());
        };
        let event = received_event(message.id, &message.metadata, message.custom_metadata, message.data)?;
        size += event.size();
        if size > APPEND_MAX {
            return Err(Refusal::AppendTooLarge(APPEND_MAX).into());
        }
        append.events.push(event);
    }
    Ok(append)
}

/// The event with these fields. Refuses an event without an id, a type or a content type.
pub(super) fn received_event(
    id: Option<Uuid>,
    metadata: &HashMap<String, String>,
    custom_metadata: Bytes,
    data: Bytes,
) -> Result<ReceivedEvent, Refusal> {
    let required_metadata = |name: &'static str| {
        metadata.get(name).map(|value| Arc::from(value.as_str())).ok_or(Refusal::MissingMetadata(name))
    };
    let id = parse_id(id).ok_or_else(|| Refusal::Invalid("the event's id is missing or not a UUID".to_owned()))?;
    Ok(ReceivedEvent {
        id,
        event_type: required_metadata("type")?,
        content_type: required_metadata("content-type")?,
        custom_metadata,
        data,
    })
}

/// The response to an append. A wrong expected revision is reported in the response; the other refusals are error statuses.
pub(super) fn append_response(written: Result<AppendSuccess, Refusal>) -> Result<AppendResp, Refusal> {
    let result = match written {
        Ok(written) => AppendResult::Success(success(written)),
        Err(Refusal::WrongExpectedRevision { expected, current, .. }) => {
            AppendResult::WrongExpectedVersion(wrong_expected_version(expected, current))
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(AppendResp { result: Some(result) })
}

fn success(written: AppendSuccess) -> Success {
    let revision =
        written.revision.map_or(CurrentRevisionOption::NoStream(Empty {}), CurrentRevisionOption::CurrentRevision);
    let position = Position { commit_position: written.position.commit, prepare_position: written.position.prepare };
    Success { current_revision_option: Some(revision), position_option: Some(PositionOption::Position(position)) }
}

fn wrong_expected_version(expected: ExpectedRevision, current: Option<u64>) -> WrongExpectedVersion {
    let (old_expected, expected) = match expected {
        ExpectedRevision::Any => (OldExpected::Any2060(Empty {}), Expected::ExpectedAny(Empty {})),
        ExpectedRevision::StreamExists => {
            (OldExpected::StreamExists2060(Empty {}), Expected::ExpectedStreamExists(Empty {}))
        }
        // The fields of the older version have no other value for "no stream".
        ExpectedRevision::NoStream => {
            (OldExpected::ExpectedRevision2060(u64::MAX), Expected::ExpectedNoStream(Empty {}))
        }
        ExpectedRevision::Exact(revision) => {
            (OldExpected::ExpectedRevision2060(revision), Expected::ExpectedRevision(revision))
        }
    };
    let (old_current, current) = match current {
        Some(revision) => (OldCurrent::CurrentRevision2060(revision), Current::CurrentRevision(revision)),
        None => (OldCurrent::NoStream2060(Empty {}), Current::CurrentNoStream(Empty {})),
    };
    WrongExpectedVersion {
        current_revision_option_20_6_0: Some(old_current),
        expected_revision_option_20_6_0: Some(old_expected),
        current_revision_option: Some(current),
        expected_revision_option: Some(expected),
    }
}
