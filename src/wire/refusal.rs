//! Why a request was refused, and the gRPC status and trailers by which clients recognise the reason.

use std::net::SocketAddr;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::event::ExpectedRevision;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The request has no valid credential.
    Unauthenticated,
    /// The log is read-only, or the caller may not read it.
    AccessDenied,
    /// The caller does something too often. The text names the limit.
    TooOften(String),
    /// The stream has no event, or was soft-deleted.
    NoStream(String),
    /// The stream was deleted permanently, or was soft-deleted and the writer expects a stream that exists.
    StreamDeleted(String),
    /// The last revision of the stream is not the one that the writer expects.
    WrongExpectedRevision { stream: String, expected: ExpectedRevision, current: Option<u64> },
    /// The append is larger than this limit in bytes.
    AppendTooLarge(usize),
    /// An event lacks the metadata of this name.
    MissingMetadata(&'static str),
    /// Another server is the leader.
    NotLeader(SocketAddr),
    /// The request is malformed, for this reason.
    Invalid(String),
    /// A later request may succeed.
    Unavailable(String),
    /// The log is damaged.
    DataLoss(String),
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            Self::Unauthenticated => Code::Unauthenticated,
            Self::AccessDenied => Code::PermissionDenied,
            Self::TooOften(_) => Code::ResourceExhausted,
            Self::NoStream(_) | Self::NotLeader(_) => Code::NotFound,
            Self::StreamDeleted(_) | Self::WrongExpectedRevision { .. } => Code::FailedPrecondition,
            Self::AppendTooLarge(_) | Self::MissingMetadata(_) | Self::Invalid(_) => Code::InvalidArgument,
            Self::Unavailable(_) => Code::Unavailable,
            Self::DataLoss(_) => Code::DataLoss,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Unauthenticated => "Not Authenticated".to_owned(),
            Self::AccessDenied => "Access Denied".to_owned(),
            Self::NoStream(stream) => format!("Event stream '{stream}' is not found."),
            Self::StreamDeleted(stream) => format!("Event stream '{stream}' is deleted."),
            Self::WrongExpectedRevision { stream, expected, current } => format!(
                "WrongExpectedVersion. Stream: {stream}, Expected version: {}, Actual version: {}",
                expected.as_number(),
                revision_number(*current),
            ),
            Self::AppendTooLarge(max) => format!("Maximum Append Size of {max} Exceeded."),
            Self::MissingMetadata(name) => format!("Required Metadata Property '{name}' is missing"),
            Self::NotLeader(_) => "Leader info available".to_owned(),
            Self::TooOften(why) | Self::Invalid(why) | Self::Unavailable(why) | Self::DataLoss(why) => why.clone(),
        }
    }

    /// The trailer `exception` and the trailers with its details.
    fn trailers(&self) -> Vec<(&'static str, String)> {
        let exception = |name: &str| ("exception", name.to_owned());
        match self {
            Self::Unauthenticated => vec![exception("not-authenticated")],
            Self::AccessDenied => vec![exception("access-denied")],
            Self::NoStream(stream) => vec![exception("stream-not-found"), ("stream-name", stream.clone())],
            Self::StreamDeleted(stream) => vec![exception("stream-deleted"), ("stream-name", stream.clone())],
            Self::WrongExpectedRevision { stream, expected, current } => vec![
                exception("wrong-expected-version"),
                ("stream-name", stream.clone()),
                ("expected-version", expected.as_number().to_string()),
                ("actual-version", revision_number(*current).to_string()),
            ],
            Self::AppendTooLarge(max) => {
                vec![exception("maximum-append-size-exceeded"), ("maximum-append-size", max.to_string())]
            }
            Self::MissingMetadata(_) => vec![
                exception("missing-required-metadata-property"),
                ("required-metadata-properties", "type,content-type".to_owned()),
            ],
            Self::NotLeader(leader) => vec![
                exception("not-leader"),
                ("leader-endpoint-host", leader.ip().to_string()),
                ("leader-endpoint-port", leader.port().to_string()),
            ],
            Self::TooOften(_) | Self::Invalid(_) | Self::Unavailable(_) | Self::DataLoss(_) => Vec::new(),
        }
    }
}

/// A last revision as a number in trailers: -1 if the stream has no event.
fn revision_number(revision: Option<u64>) -> i64 {
    revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX))
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut trailers = MetadataMap::new();
        for (name, value) in refusal.trailers() {
            // A stream's name may contain characters that a trailer can't contain. Then this trailer is left out.
            if let Ok(value) = value.parse::<MetadataValue<_>>() {
                trailers.insert(name, value);
            }
        }
        Self::with_metadata(refusal.code(), refusal.message(), trailers)
    }
}
