//! Subscriptions to a stream or to `$all`.
//!
//! A subscriber gets, in this order: the confirmation; the events that exist; `caught_up`; each new event.
//!
//! - A subscriber of `$all` with a filter also gets checkpoints: one after each interval of events, one before `caught_up`
//!   and one after `fell_behind`, unless a checkpoint or event has already covered the last position. The interval counts all
//!   events, not only those that match the filter.
//! - If a full page of new events waits for the subscriber after `caught_up`, it gets `fell_behind`, and `caught_up` again
//!   later.
//! - A subscription never ends with the status OK, because the clients would then subscribe again at once.

use std::ops::Bound;

use super::backend::WireBackend;
use super::event::{WireEvent, WirePosition};
use super::filter::EventFilter;
use super::proto::streams::read_resp::{CaughtUp, Checkpoint, Content, FellBehind, Position, SubscriptionConfirmation};
use super::read::{EarlyEnd, PAGE_EVENTS, ReadResponses};
use super::refusal::Refusal;
use super::request::ReadStart;
use crate::clock::{new_id, now};

/// Sends the events of a stream after a revision (exclusive), until the client has gone.
pub(super) async fn follow_stream(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    stream: &str,
    after: ReadStart<u64>,
) -> Result<(), EarlyEnd> {
    let mut from = match after {
        ReadStart::Start => 0,
        ReadStart::At(revision) => revision.saturating_add(1),
        ReadStart::End => last_revision(backend, stream).await?.map_or(0, |last| last.saturating_add(1)),
    };
    send_confirmation(responses).await?;
    let mut catch_up = CatchUpState::default();
    loop {
        let end = backend.end();
        let events = empty_if_missing(backend.stream_forwards(stream, from, PAGE_EVENTS).await)?;
        for event in &events {
            responses.send_event(event).await?;
            from = event.revision.saturating_add(1);
        }
        let reached = SubscriberPosition::Stream(from.checked_sub(1));
        if catch_up.notify_change(responses, events.len() == PAGE_EVENTS, reached, None).await? {
            wait_for_stream_event(backend, responses, stream, end).await?;
        }
    }
}

/// Waits until there is an event of the stream after the position `end`, or the client has gone. It reads the new events of
/// `$all`. Most of them belong to other streams, and to read the stream itself after each of them would cost more.
async fn wait_for_stream_event(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    stream: &str,
    mut end: Option<WirePosition>,
) -> Result<(), EarlyEnd> {
    loop {
        wait_for_event_or_disconnect(backend, responses, end).await?;
        let events = backend.all_forwards(end.map_or(Bound::Unbounded, Bound::Excluded), PAGE_EVENTS).await?;
        if events.iter().any(|event| *event.stream == *stream) {
            return Ok(());
        }
        end = events.last().map_or(end, |event| Some(event.position));
    }
}

/// Sends the events of `$all` after a position (exclusive) that match the filter, until the client has gone.
pub(super) async fn follow_all(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    after: ReadStart<WirePosition>,
    filter: Option<&EventFilter>,
) -> Result<(), EarlyEnd> {
    let mut after = match after {
        ReadStart::Start => Bound::Unbounded,
        ReadStart::At(position) => Bound::Excluded(position),
        ReadStart::End => backend.end().map_or(Bound::Unbounded, Bound::Excluded),
    };
    send_confirmation(responses).await?;
    let mut catch_up = CatchUpState::default();
    let mut checkpoints = Checkpoints { filter, events_in_interval: 0, pending_checkpoint: None };
    loop {
        let end = backend.end();
        let events = backend.all_forwards(after, PAGE_EVENTS).await?;
        for event in &events {
            checkpoints.send_event(responses, event).await?;
            after = Bound::Excluded(event.position);
        }
        let (is_full, reached) = (events.len() == PAGE_EVENTS, SubscriberPosition::All(after));
        if catch_up.notify_change(responses, is_full, reached, Some(&mut checkpoints)).await? {
            wait_for_event_or_disconnect(backend, responses, end).await?;
        }
    }
}

async fn send_confirmation(responses: &ReadResponses) -> Result<(), EarlyEnd> {
    let subscription_id = new_id().to_string();
    Ok(responses.send(Content::Confirmation(SubscriptionConfirmation { subscription_id })).await?)
}

/// Whether the subscriber has received every event that exists.
#[derive(Default)]
struct CatchUpState {
    is_caught_up: bool,
}

impl CatchUpState {
    /// Called after each page. After a full page the subscriber has not caught up; after any other page it has. If this has
    /// changed, sends the change to the subscriber. Returns whether the subscriber has caught up.
    async fn notify_change(
        &mut self,
        responses: &ReadResponses,
        is_full: bool,
        reached: SubscriberPosition,
        checkpoints: Option<&mut Checkpoints<'_>>,
    ) -> Result<bool, EarlyEnd> {
        let is_caught_up = !is_full;
        if self.is_caught_up != is_caught_up {
            if is_full {
                responses.send(reached.fell_behind()).await?;
            }
            if let Some(checkpoints) = checkpoints {
                checkpoints.send_due(responses).await?;
            }
            if is_caught_up {
                responses.send(reached.caught_up()).await?;
            }
            self.is_caught_up = is_caught_up;
        }
        Ok(is_caught_up)
    }
}

/// The last event that a subscriber has received.
#[derive(Clone, Copy)]
enum SubscriberPosition {
    /// The last revision that it has received; `None` if it has received no event.
    Stream(Option<u64>),
    /// A bound. The subscriber has received every event before it and no event after it.
    All(Bound<WirePosition>),
}

impl SubscriberPosition {
    fn caught_up(self) -> Content {
        let (stream_revision, position) = self.as_fields();
        Content::CaughtUp(CaughtUp { timestamp: Some(timestamp()), stream_revision, position })
    }

    fn fell_behind(self) -> Content {
        let (stream_revision, position) = self.as_fields();
        Content::FellBehind(FellBehind { timestamp: Some(timestamp()), stream_revision, position })
    }

    fn as_fields(self) -> (Option<i64>, Option<Position>) {
        match self {
            Self::Stream(revision) => (revision.and_then(|revision| i64::try_from(revision).ok()), None),
            Self::All(Bound::Excluded(position) | Bound::Included(position)) => {
                (None, Some(Position { commit_position: position.commit, prepare_position: position.prepare }))
            }
            Self::All(Bound::Unbounded) => (None, None),
        }
    }
}

fn timestamp() -> prost_types::Timestamp {
    let micros = now().as_micros();
    let nanos = i32::try_from(micros.rem_euclid(1_000_000)).unwrap_or(0) * 1000;
    prost_types::Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// The checkpoints of a filtered subscription.
struct Checkpoints<'a> {
    filter: Option<&'a EventFilter>,
    /// The number of events since the end of the last interval.
    events_in_interval: u64,
    /// The position of the last event, if no checkpoint covers it yet.
    pending_checkpoint: Option<WirePosition>,
}

impl Checkpoints<'_> {
    /// Sends the event if it matches the filter. Then sends a checkpoint if an interval has ended.
    async fn send_event(&mut self, responses: &ReadResponses, event: &WireEvent) -> Result<(), EarlyEnd> {
        let Some(filter) = self.filter else { return Ok(responses.send_event(event).await?) };
        if filter.matches(event)? {
            responses.send_event(event).await?;
        }
        self.events_in_interval += 1;
        self.pending_checkpoint = Some(event.position);
        if self.events_in_interval >= filter.checkpoint_interval {
            self.events_in_interval = 0;
            self.send_due(responses).await?;
        }
        Ok(())
    }

    async fn send_due(&mut self, responses: &ReadResponses) -> Result<(), EarlyEnd> {
        let Some(position) = self.pending_checkpoint.take() else { return Ok(()) };
        let (commit_position, prepare_position) = (position.commit, position.prepare);
        let checkpoint = Checkpoint { commit_position, prepare_position, timestamp: Some(timestamp()) };
        Ok(responses.send(Content::Checkpoint(checkpoint)).await?)
    }
}

/// Waits until there is an event after the position `end`, or the client has gone.
async fn wait_for_event_or_disconnect(
    backend: &dyn WireBackend,
    responses: &ReadResponses,
    end: Option<WirePosition>,
) -> Result<(), EarlyEnd> {
    tokio::select! {
        grown = backend.wait_for_event_after(end) => Ok(grown?),
        () = responses.sender.closed() => Err(EarlyEnd::ClientGone),
    }
}

async fn last_revision(backend: &dyn WireBackend, stream: &str) -> Result<Option<u64>, Refusal> {
    let last = empty_if_missing(backend.stream_backwards(stream, u64::MAX, 1).await)?;
    Ok(last.first().map(|event| event.revision))
}

/// Turns the refusal of a missing stream into an empty result, because a subscription may wait for the stream's first event.
fn empty_if_missing<T: Default>(read: Result<T, Refusal>) -> Result<T, Refusal> {
    match read {
        Err(Refusal::NoStream(_)) => Ok(T::default()),
        read => read,
    }
}
