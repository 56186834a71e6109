//! The method `BatchAppend`: many appends over one call. Each append has its own response, with the append's correlation id.

use std::collections::HashMap;

use prost::{Message, Name};
use tonic::{Code, Status};
use uuid::Uuid;

use super::append::{APPEND_MAX, received_event};
use super::backend::{AppendSuccess, WireAppend};
use super::event::{ExpectedRevision, parse_id, stream_identifier};
use super::proto::rpc;
use super::proto::shared::{self, AllStreamPosition, Uuid as ProtoUuid};
use super::proto::streams::batch_append_req::options::ExpectedStreamPosition;
use super::proto::streams::batch_append_req::{Options, ProposedMessage};
use super::proto::streams::batch_append_resp::success::{CurrentRevisionOption, PositionOption};
use super::proto::streams::batch_append_resp::{ExpectedStreamPosition as Expected, Result as AppendResult, Success};
use super::proto::streams::{BatchAppendReq, BatchAppendResp};
use super::refusal::Refusal;
use super::request::{missing, stream_name};

/// The appends of one call whose last chunk has not come yet.
#[derive(Default)]
pub(super) struct OpenAppends {
    by_id: HashMap<Uuid, OpenAppend>,
}

/// An append of which not all chunks have come.
struct OpenAppend {
    append: WireAppend,
    /// The size of its events so far, in bytes.
    size: usize,
    /// Why the append is refused. Its other chunks are received nevertheless.
    refused: Option<Refusal>,
}

/// An append of which all chunks have come.
pub(super) struct CompleteAppend {
    correlation_id: Option<ProtoUuid>,
    stream: String,
    expected: ExpectedRevision,
    pub(super) append: Result<WireAppend, Refusal>,
}

impl OpenAppends {
    /// Adds a chunk to its append. Returns the append if this was its last chunk.
    pub(super) fn receive(&mut self, chunk: BatchAppendReq) -> Result<Option<CompleteAppend>, Refusal> {
        let correlation_id = chunk.correlation_id.clone();
        let id = parse_id(chunk.correlation_id).ok_or_else(|| missing("correlation_id"))?;
        if let Some(options) = chunk.options {
            self.by_id.insert(id, OpenAppend::new(options)?);
        }
        let open = self.by_id.get_mut(&id).ok_or_else(|| missing("options"))?;
        for message in chunk.proposed_messages {
            open.add(message);
        }
        if !chunk.is_final {
            return Ok(None);
        }
        Ok(self.by_id.remove(&id).map(|open| open.complete(correlation_id)))
    }
}

impl OpenAppend {
    fn new(options: Options) -> Result<Self, Refusal> {
        let expected = match options.expected_stream_position {
            Some(ExpectedStreamPosition::StreamPosition(revision)) => ExpectedRevision::Exact(revision),
            Some(ExpectedStreamPosition::NoStream(())) => ExpectedRevision::NoStream,
            Some(ExpectedStreamPosition::StreamExists(())) => ExpectedRevision::StreamExists,
            Some(ExpectedStreamPosition::Any(())) => ExpectedRevision::Any,
            None => return Err(missing("expected_stream_position")),
        };
        let append = WireAppend { stream: stream_name(options.stream_identifier)?, expected, events: Vec::new() };
        Ok(Self { append, size: 0, refused: None })
    }

    fn add(&mut self, message: ProposedMessage) {
        match received_event(message.id, &message.metadata, message.custom_metadata, message.data) {
            Ok(event) => {
                self.size += event.size();
                if self.size > APPEND_MAX {
                    self.refused = Some(Refusal::AppendTooLarge(APPEND_MAX));
                    self.append.events.clear();
                } else {
                    self.append.events.push(event);
                }
            }
            Err(refusal) => self.refused = Some(refusal),
        }
    }

    fn complete(self, correlation_id: Option<ProtoUuid>) -> CompleteAppend {
        let (stream, expected) = (self.append.stream.clone(), self.append.expected);
        CompleteAppend { correlation_id, stream, expected, append: self.refused.map_or(Ok(self.append), Err) }
    }
}

/// The fields of a response that repeat those of the request.
pub(super) struct ResponseHeader {
    correlation_id: Option<ProtoUuid>,
    stream: String,
    expected: ExpectedRevision,
}

impl CompleteAppend {
    pub(super) fn split(self) -> (Result<WireAppend, Refusal>, ResponseHeader) {
        let header =
            ResponseHeader { correlation_id: self.correlation_id, stream: self.stream, expected: self.expected };
        (self.append, header)
    }
}

impl ResponseHeader {
    pub(super) fn into_response(self, written: Result<AppendSuccess, Refusal>) -> BatchAppendResp {
        let outcome = match written {
            Ok(written) => AppendResult::Success(success(written)),
            Err(refusal) => AppendResult::Error(refusal_status(refusal)),
        };
        let expected = match self.expected {
            ExpectedRevision::Exact(revision) => Expected::StreamPosition(revision),
            ExpectedRevision::NoStream => Expected::NoStream(()),
            ExpectedRevision::StreamExists => Expected::StreamExists(()),
            ExpectedRevision::Any => Expected::Any(()),
        };
        BatchAppendResp {
            correlation_id: self.correlation_id,
            stream_identifier: Some(stream_identifier(&self.stream)),
            expected_stream_position: Some(expected),
            result: Some(outcome),
        }
    }
}

fn success(written: AppendSuccess) -> Success {
    let revision = written.revision.map_or(CurrentRevisionOption::NoStream(()), CurrentRevisionOption::CurrentRevision);
    let position =
        AllStreamPosition { commit_position: written.position.commit, prepare_position: written.position.prepare };
    Success { current_revision_option: Some(revision), position_option: Some(PositionOption::Position(position)) }
}

/// The status of one refused append: a code, a message, and one detail. The detail's type identifies the refusal.
fn refusal_status(refusal: Refusal) -> rpc::Status {
    match refusal {
        Refusal::WrongExpectedRevision { expected, current, .. } => {
            status(Code::AlreadyExists, "WrongExpectedVersion", &wrong_expected_version(expected, current))
        }
        Refusal::StreamDeleted(stream) => {
            let detail = shared::StreamDeleted { stream_identifier: Some(stream_identifier(&stream)) };
            status(Code::NotFound, "StreamDeleted", &detail)
        }
        Refusal::AccessDenied => status(Code::PermissionDenied, "AccessDenied", &shared::AccessDenied {}),
        Refusal::AppendTooLarge(max) => {
            let max_append_size = u32::try_from(max).unwrap_or(u32::MAX);
            let detail = shared::MaximumAppendSizeExceeded { max_append_size };
            status(Code::InvalidArgument, "MaximumAppendSizeExceeded", &detail)
        }
        refusal @ (Refusal::MissingMetadata(_) | Refusal::Invalid(_)) => {
            let message = Status::from(refusal).message().to_owned();
            status(Code::InvalidArgument, &message, &shared::BadRequest { message: message.clone() })
        }
        refusal @ (Refusal::Unauthenticated
        | Refusal::TooOften(_)
        | Refusal::NoStream(_)
        | Refusal::NotLeader(_)
        | Refusal::Unavailable(_)
        | Refusal::DataLoss(_)) => {
            let cause = Status::from(refusal);
            status(cause.code(), cause.message(), &shared::Unknown {})
        }
    }
}

fn status<D: Message + Name>(code: Code, message: &str, detail: &D) -> rpc::Status {
    let any = prost_types::Any { type_url: D::type_url(), value: detail.encode_to_vec() };
    rpc::Status { code: code.into(), message: message.to_owned(), details: Some(any) }
}

fn wrong_expected_version(expected: ExpectedRevision, current: Option<u64>) -> shared::WrongExpectedVersion {
    use shared::wrong_expected_version::{
        CurrentStreamRevisionOption as Current, ExpectedStreamPositionOption as Expected,
    };
    let expected = match expected {
        ExpectedRevision::Exact(revision) => Expected::ExpectedStreamPosition(revision),
        ExpectedRevision::NoStream => Expected::ExpectedNoStream(()),
        ExpectedRevision::StreamExists => Expected::ExpectedStreamExists(()),
        ExpectedRevision::Any => Expected::ExpectedAny(()),
    };
    shared::WrongExpectedVersion {
        current_stream_revision_option: Some(
            current.map_or(Current::CurrentNoStream(()), Current::CurrentStreamRevision),
        ),
        expected_stream_position_option: Some(expected),
    }
}
