//! Reads that end: a stream or `$all`, forwards or backwards.

use std::ops::Bound;
use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;

use super::backend::Backend;
use super::event::{IdFormat, WireEvent, WirePosition, stream_identifier};
use super::filter::EventFilter;
use super::proto::streams::ReadResp;
use super::proto::streams::read_resp::read_event::Position;
use super::proto::streams::read_resp::{Content, ReadEvent, StreamNotFound};
use super::refusal::Refusal;
use super::request::Place;

/// Events that are read at once.
pub(super) const PAGE: usize = 256;

/// The messages to one client. A client that reads slowly makes the sender wait.
pub(super) struct Responses {
    pub(super) sender: mpsc::Sender<Result<ReadResp, Status>>,
    pub(super) ids: IdFormat,
}

/// The client no longer receives.
pub(super) struct Gone;

/// Why a read ended early.
pub(super) enum Stop {
    Gone,
    Refused(Refusal),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Responses {
    pub(super) async fn send(&self, content: Content) -> Result<(), Gone> {
        self.sender.send(Ok(ReadResp { content: Some(content) })).await.map_err(|_| Gone)
    }

    pub(super) async fn send_event(&self, event: &WireEvent) -> Result<(), Gone> {
        let position = Some(Position::CommitPosition(event.position.commit));
        self.send(Content::Event(ReadEvent { event: Some(event.to_proto(self.ids)), link: None, position })).await
    }

    /// Ends the call with the status of the refusal. A missing stream is a message and no error.
    pub(super) async fn refuse(&self, refusal: Refusal) {
        let last = match refusal {
            Refusal::NoStream(stream) => {
                let stream_identifier = Some(stream_identifier(&stream));
                Ok(ReadResp { content: Some(Content::StreamNotFound(StreamNotFound { stream_identifier })) })
            }
            refusal => Err(refusal.into()),
        };
        // A client that is gone needs no answer.
        let _ = self.sender.send(last).await;
    }
}

/// Sends at most `count` events of a stream.
pub(super) async fn read_stream(
    backend: &dyn Backend,
    responses: &Responses,
    (stream, from, backwards): (&str, Place<u64>, bool),
    count: u64,
) -> Result<(), Stop> {
    let mut from = match from {
        Place::Start => 0,
        Place::At(revision) => revision,
        Place::End => u64::MAX,
    };
    let mut left = count;
    loop {
        let limit = page(left);
        let events = if backwards {
            backend.stream_backwards(stream, from, limit).await?
        } else {
            backend.stream_forwards(stream, from, limit).await?
        };
        for event in &events {
            responses.send_event(event).await?;
        }
        left -= events.len() as u64;
        let Some(last) = events.last().filter(|_| left > 0 && events.len() == limit) else { return Ok(()) };
        let next = if backwards { last.revision.checked_sub(1) } else { last.revision.checked_add(1) };
        let Some(next) = next else { return Ok(()) };
        from = next;
    }
}

/// Sends at most `count` events of `$all` that the filter wants.
pub(super) async fn read_all(
    backend: &dyn Backend,
    responses: &Responses,
    (from, backwards): (Place<WirePosition>, bool),
    (count, filter): (u64, Option<&EventFilter>),
) -> Result<(), Stop> {
    let mut cursor = if backwards { Cursor::Before(from.before()) } else { Cursor::From(from.inclusive()) };
    let mut left = count;
    while left > 0 {
        let limit = if filter.is_some() { PAGE } else { page(left) };
        let events = cursor.next(backend, limit).await?;
        for event in &events {
            if left > 0 && filter.map_or(Ok(true), |filter| filter.matches(event))? {
                responses.send_event(event).await?;
                left -= 1;
            }
        }
        if events.len() < limit {
            break;
        }
    }
    Ok(())
}

/// How far a read of `$all` has come.
enum Cursor {
    From(Bound<WirePosition>),
    Before(WirePosition),
}

impl Cursor {
    async fn next(&mut self, backend: &dyn Backend, limit: usize) -> Result<Vec<Arc<WireEvent>>, Refusal> {
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

fn page(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PAGE)
}
