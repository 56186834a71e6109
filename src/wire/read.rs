//! Reads of a stream or of `$all`, forwards or backwards. Unlike a subscription, such a read ends.

use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;

use super::backend::WireBackend;
use super::event::{IdFormat, WireEvent, WirePosition, stream_identifier};
use super::filter::EventFilter;
use super::proto::streams::ReadResp;
use super::proto::streams::read_resp::read_event::Position;
use super::proto::streams::read_resp::{Content, ReadEvent, StreamNotFound};
use super::refusal::Refusal;
use super::request::ReadStart;

/// The largest number of events that are read from the backend at once.
pub(super) const PAGE_EVENTS: usize = 256;

/// Sends messages to one client. If the client reads slowly, the sender waits.
pub(super) struct ReadResponses {
    pub(super) sender: mpsc::Sender<Result<ReadResp, Status>>,
    pub(super) ids: IdFormat,
}

/// The client has closed the call or its connection.
pub(super) struct ClientGone;

/// Why a read has ended before its last event.
pub(super) enum EarlyEnd {
    ClientGone,
    Refused(Refusal),
}

impl From<ClientGone> for EarlyEnd {
    fn from(_: ClientGone) -> Self {
        Self::ClientGone
    }
}

impl From<Refusal> for EarlyEnd {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl ReadResponses {
    pub(super) async fn send(&self, content: Content) -> Result<(), ClientGone> {
        self.sender.send(Ok(ReadResp { content: Some(content) })).await.map_err(|_| ClientGone)
    }

    pub(super) async fn send_event(&self, event: &WireEvent) -> Result<(), ClientGone> {
        let position = Some(Position::CommitPosition(event.position.commit));
        self.send(Content::Event(ReadEvent { event: Some(event.to_proto(self.ids)), link: None, position })).await
    }

    /// Sends the status of the refusal as the last message. For a missing stream it sends the message `StreamNotFound`
    /// instead of an error status.
    pub(super) async fn refuse(&self, refusal: Refusal) {
        let last = match refusal {
            Refusal::NoStream(stream) => {
                let stream_identifier = Some(stream_identifier(&stream));
                Ok(ReadResp { content: Some(Content::StreamNotFound(StreamNotFound { stream_identifier })) })
            }
            refusal => Err(refusal.into()),
        };
        // An error means that the client has gone and needs no response.
        let _ = self.sender.send(last).await;
    }
}

/// Where a read begins, and its direction.
pub(super) struct ReadRange<T> {
    pub(super) from: ReadStart<T>,
    pub(super) backwards: bool,
}

/// Sends at most `count` events of a stream.
pub(super) async fn read_stream(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    stream: &str,
    ReadRange { from, backwards }: ReadRange<u64>,
    count: u64,
) -> Result<(), EarlyEnd> {
    let mut from = match from {
        ReadStart::Start => 0,
        ReadStart::At(revision) => revision,
        ReadStart::End => u64::MAX,
    };
    let mut remaining = count;
    loop {
        let limit = page_limit(remaining);
        let events = if backwards {
            backend.stream_backwards(stream, from, limit).await?
        } else {
            backend.stream_forwards(stream, from, limit).await?
        };
        for event in &events {
            responses.send_event(event).await?;
        }
        remaining -= events.len() as u64;
        let Some(last) = events.last().filter(|_| remaining > 0 && events.len() == limit) else { return Ok(()) };
        let next = if backwards { last.revision.checked_sub(1) } else { last.revision.checked_add(1) };
        let Some(next) = next else { return Ok(()) };
        from = next;
    }
}

/// Sends at most `count` events of `$all` that match the filter.
pub(super) async fn read_all(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    ReadRange { from, backwards }: ReadRange<WirePosition>,
    count: u64,
    filter: Option<&EventFilter>,
) -> Result<(), EarlyEnd> {
    let mut cursor = if backwards { AllCursor::Before(from.before()) } else { AllCursor::From(from.inclusive()) };
    let mut remaining = count;
    while remaining > 0 {
        let limit = if filter.is_some() { PAGE_EVENTS } else { page_limit(remaining) };
        let events = cursor.next(backend, limit).await?;
        for event in &events {
            if remaining > 0 && filter.map_or(Ok(true), |filter| filter.matches(event))? {
                responses.send_event(event).await?;
                remaining -= 1;
            }
        }
        if events.len() < limit {
            break;
        }
    }
    Ok(())
}

/// Where the next page of a read of `$all` begins.
enum AllCursor {
    From(Bound<WirePosition>),
    Before(WirePosition),
}

impl AllCursor {
    async fn next(&mut self, backend: &dyn WireBackend, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
        match self {
            Self::From(bound) => {
                let events = backend.all_forwards(*bound, limit).await?;
                *bound = events.last().map_or(*bound, |event| Bound::Excluded(event.position));
                Ok(events)
            }
            Self::Before(before) => {
                let events = backend.all_backwards(*before, limit).await?;
                *before = events.last().map_or(*before, |event| event.position);
                Ok(events)
            }
        }
    }
}

fn page_limit(remaining: u64) -> usize {
    usize::try_from(remaining).unwrap_or(usize::MAX).min(PAGE_EVENTS)
}
