//! Parses and checks a read request.

use std::ops::Bound;

use super::event::{IdFormat, WirePosition};
use super::filter::EventFilter;
use super::proto::shared::StreamIdentifier;
use super::proto::streams::ReadReq;
use super::proto::streams::read_req::options::all_options::AllOption;
use super::proto::streams::read_req::options::stream_options::RevisionOption;
use super::proto::streams::read_req::options::uuid_option;
use super::proto::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions,
};
use super::refusal::Refusal;

/// A request of the method `Read`.
pub(super) struct ReadRequest {
    pub(super) kind: ReadKind,
    pub(super) ids: IdFormat,
}

/// The four kinds of reads.
pub(super) enum ReadKind {
    Stream { stream: String, from: ReadStart<u64>, backwards: bool, count: u64 },
    All { from: ReadStart<WirePosition>, backwards: bool, count: u64, filter: Option<EventFilter> },
    FollowStream { stream: String, after: ReadStart<u64> },
    FollowAll { after: ReadStart<WirePosition>, filter: Option<EventFilter> },
}

/// The revision or position at which a read begins.
#[derive(Clone, Copy)]
pub(super) enum ReadStart<T> {
    Start,
    At(T),
    End,
}

impl ReadRequest {
    pub(super) fn parse(request: ReadReq) -> Result<Self, Refusal> {
        let options = request.options.ok_or_else(|| missing("options"))?;
        let ids = match options.uuid_option.and_then(|option| option.content) {
            Some(uuid_option::Content::Structured(_)) => IdFormat::Structured,
            Some(uuid_option::Content::String(_)) | None => IdFormat::Text,
        };
        let backwards = options.read_direction == i32::from(ReadDirection::Backwards);
        let filter = match options.filter_option {
            Some(FilterOption::Filter(filter)) => Some(EventFilter::parse(filter)?),
            Some(FilterOption::NoFilter(_)) | None => None,
        };
        let source = options.stream_option.ok_or_else(|| missing("stream_option"))?;
        let count = options.count_option.ok_or_else(|| missing("count_option"))?;
        Ok(Self { kind: ReadKind::new(source, count, backwards, filter)?, ids })
    }
}

impl ReadKind {
    fn new(
        source: StreamOption,
        count: CountOption,
        backwards: bool,
        filter: Option<EventFilter>,
    ) -> Result<Self, Refusal> {
        match (source, count) {
            (_, CountOption::Subscription(_)) if backwards => {
                Err(Refusal::Invalid("a subscription can't read backwards".to_owned()))
            }
            (StreamOption::Stream(_), _) if filter.is_some() => {
                Err(Refusal::Invalid("a filter is allowed only for $all".to_owned()))
            }
            (StreamOption::Stream(options), CountOption::Count(count)) => {
                let (stream, from) = stream_start(options)?;
                Ok(Self::Stream { stream, from, backwards, count })
            }
            (StreamOption::All(options), CountOption::Count(count)) => {
                Ok(Self::All { from: all_start(options), backwards, count, filter })
            }
            (StreamOption::Stream(options), CountOption::Subscription(_)) => {
                let (stream, after) = stream_start(options)?;
                Ok(Self::FollowStream { stream, after })
            }
            (StreamOption::All(options), CountOption::Subscription(_)) => {
                Ok(Self::FollowAll { after: all_start(options), filter })
            }
        }
    }
}

impl ReadStart<WirePosition> {
    /// The bound of a read forwards, which includes the position.
    pub(super) fn inclusive(self) -> Bound<WirePosition> {
        match self {
            Self::Start => Bound::Unbounded,
            Self::At(position) => Bound::Included(position),
            Self::End => Bound::Excluded(WirePosition::END),
        }
    }

    /// The bound of a read backwards, which excludes the position.
    pub(super) fn before(self) -> WirePosition {
        match self {
            Self::Start => WirePosition::START,
            Self::At(position) => position,
            Self::End => WirePosition::END,
        }
    }
}

fn stream_start(options: StreamOptions) -> Result<(String, ReadStart<u64>), Refusal> {
    let start = match options.revision_option {
        Some(RevisionOption::Revision(revision)) => ReadStart::At(revision),
        Some(RevisionOption::End(_)) => ReadStart::End,
        Some(RevisionOption::Start(_)) | None => ReadStart::Start,
    };
    Ok((stream_name(options.stream_identifier)?, start))
}

fn all_start(options: AllOptions) -> ReadStart<WirePosition> {
    match options.all_option {
        Some(AllOption::Position(position)) => {
            let position = WirePosition { commit: position.commit_position, prepare: position.prepare_position };
            if position == WirePosition::END { ReadStart::End } else { ReadStart::At(position) }
        }
        Some(AllOption::End(_)) => ReadStart::End,
        Some(AllOption::Start(_)) | None => ReadStart::Start,
    }
}

/// The name of the stream. Refuses a name that is missing, empty or not UTF-8.
pub(super) fn stream_name(stream: Option<StreamIdentifier>) -> Result<String, Refusal> {
    let name = stream.ok_or_else(|| missing("stream_identifier"))?.stream_name;
    match String::from_utf8(name.to_vec()) {
        Ok(name) if !name.is_empty() => Ok(name),
        _ => Err(Refusal::Invalid("the name of the stream is empty or not UTF-8".to_owned())),
    }
}

/// The refusal of a request that lacks this field.
pub(super) fn missing(field: &str) -> Refusal {
    Refusal::Invalid(format!("'{field}' is missing"))
}
