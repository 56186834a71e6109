//! Subscriptions to a stream or to `$all`.
//!
//! A subscriber gets, in this order: the confirmation; the events that exist; `caught_up`; each new event. A subscriber of
//! `$all` with a filter also gets checkpoints: after each interval of events, wanted or not, and before `caught_up`. Where
//! it falls a whole page behind it gets `fell_behind`, and `caught_up` again later. A subscription never ends with OK: the
//! clients would take that for a pause and call again at once.

use std::ops::Bound;

use super::backend::Backend;
use super::event::{WireEvent, WirePosition};
use super::filter::EventFilter;
use super::proto::streams::read_resp::{CaughtUp, Checkpoint, Content, FellBehind, Position, SubscriptionConfirmation};
use super::read::{PAGE, Responses, Stop};
use super::refusal::Refusal;
use super::request::Place;
use crate::clock::{new_id, now};

/// Sends the events of a stream after a revision (exclusive), until the client is gone.
pub(super) async fn follow_stream(
    backend: &dyn Backend,
    responses: &Responses,
    stream: &str,
    after: Place<u64>,
) -> Result<(), Stop> {
    let mut from = match after {
        Place::Start => 0,
        Place::At(revision) => revision.saturating_add(1),
        Place::End => last_revision(backend, stream).await?.map_or(0, |last| last.saturating_add(1)),
    };
    confirm(responses).await?;
    let mut progress = Progress::default();
    loop {
        let end = backend.end();
        let events = or_empty(backend.stream_forwards(stream, from, PAGE).await)?;
        for event in &events {
            responses.send_event(event).await?;
            from = event.revision.saturating_add(1);
        }
        let reached = Reached::Stream(from.checked_sub(1));
        if progress.note(responses, events.len() == PAGE, reached, None).await? {
            wait_for_stream(backend, responses, stream, end).await?;
        }
    }
}

/// Waits until there is an event of the stream after `end`, or the client is gone. It looks at the new events of `$all`: most
/// of them belong to other streams, and a read of the stream for each of them would cost more.
async fn wait_for_stream(
    backend: &dyn Backend,
    responses: &Responses,
    stream: &str,
    mut end: Option<WirePosition>,
) -> Result<(), Stop> {
    loop {
        wait(backend, responses, end).await?;
        let events = backend.all_forwards(end.map_or(Bound::Unbounded, Bound::Excluded), PAGE).await?;
        if events.iter().any(|event| *event.stream == *stream) {
            return Ok(());
        }
        end = events.last().map_or(end, |event| Some(event.position));
    }
}

/// Sends the events of `$all` after a position (exclusive) that the filter wants, until the client is gone.
pub(super) async fn follow_all(
    backend: &dyn Backend,
    responses: &Responses,
    after: Place<WirePosition>,
    filter: Option<&EventFilter>,
) -> Result<(), Stop> {
    let mut after = match after {
        Place::Start => Bound::Unbounded,
        Place::At(position) => Bound::Excluded(position),
        Place::End => backend.end().map_or(Bound::Unbounded, Bound::Excluded),
    };
    confirm(responses).await?;
    let mut progress = Progress::default();
    let mut checkpoints = Checkpoints { filter, considered: 0, due: None };
    loop {
        let end = backend.end();
        let events = backend.all_forwards(after, PAGE).await?;
        for event in &events {
            checkpoints.consider(responses, event).await?;
            after = Bound::Excluded(event.position);
        }
        if progress.note(responses, events.len() == PAGE, Reached::All(after), Some(&mut checkpoints)).await? {
            wait(backend, responses, end).await?;
        }
    }
}

async fn confirm(responses: &Responses) -> Result<(), Stop> {
    let subscription_id = new_id().to_string();
    Ok(responses.send(Content::Confirmation(SubscriptionConfirmation { subscription_id })).await?)
}

/// Whether the subscriber has every event.
#[derive(Default)]
struct Progress {
    is_caught_up: bool,
}

impl Progress {
    /// Notifies the subscriber of a change. Returns whether it has every event; after a full page it has not.
    async fn note(
        &mut self,
        responses: &Responses,
        is_full: bool,
        reached: Reached,
        checkpoints: Option<&mut Checkpoints<'_>>,
    ) -> Result<bool, Stop> {
        if self.is_caught_up == is_full {
            if is_full {
                responses.send(reached.fell_behind()).await?;
            }
            if let Some(checkpoints) = checkpoints {
                checkpoints.send(responses).await?;
            }
            if !is_full {
                responses.send(reached.caught_up()).await?;
            }
            self.is_caught_up = !is_full;
        }
        Ok(!is_full)
    }
}

/// How far a subscriber has come.
#[derive(Clone, Copy)]
enum Reached {
    /// The last revision that it has.
    Stream(Option<u64>),
    /// What follows is what it doesn't have.
    All(Bound<WirePosition>),
}

impl Reached {
    fn caught_up(self) -> Content {
        let (stream_revision, position) = self.place();
        Content::CaughtUp(CaughtUp { timestamp: Some(timestamp()), stream_revision, position })
    }

    fn fell_behind(self) -> Content {
        let (stream_revision, position) = self.place();
        Content::FellBehind(FellBehind { timestamp: Some(timestamp()), stream_revision, position })
    }

    fn place(self) -> (Option<i64>, Option<Position>) {
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
    /// Events since the last interval.
    considered: u64,
    /// The last event that no checkpoint covers.
    due: Option<WirePosition>,
}

impl Checkpoints<'_> {
    /// Sends the event if it is wanted, and a checkpoint after it if one is due.
    async fn consider(&mut self, responses: &Responses, event: &WireEvent) -> Result<(), Stop> {
        let Some(filter) = self.filter else { return Ok(responses.send_event(event).await?) };
        if filter.matches(event)? {
            responses.send_event(event).await?;
        }
        self.considered += 1;
        self.due = Some(event.position);
        if self.considered >= filter.checkpoint_interval {
            self.considered = 0;
            self.send(responses).await?;
        }
        Ok(())
    }

    async fn send(&mut self, responses: &Responses) -> Result<(), Stop> {
        let Some(position) = self.due.take() else { return Ok(()) };
        let (commit_position, prepare_position) = (position.commit, position.prepare);
        let checkpoint = Checkpoint { commit_position, prepare_position, timestamp: Some(timestamp()) };
        Ok(responses.send(Content::Checkpoint(checkpoint)).await?)
    }
}

/// Waits until there is a later event than `end`, or the client is gone.
async fn wait(backend: &dyn Backend, responses: &Responses, end: Option<WirePosition>) -> Result<(), Stop> {
    tokio::select! {
        grown = backend.wait_beyond(end) => Ok(grown?),
        () = responses.sender.closed() => Err(Stop::Gone),
    }
}

async fn last_revision(backend: &dyn Backend, stream: &str) -> Result<Option<u64>, Refusal> {
    let last = or_empty(backend.stream_backwards(stream, u64::MAX, 1).await)?;
    Ok(last.first().map(|event| event.revision))
}

/// A subscription may wait for a stream that has no event yet.
fn or_empty<T: Default>(read: Result<T, Refusal>) -> Result<T, Refusal> {
    match read {
        Err(Refusal::NoStream(_)) => Ok(T::default()),
        read => read,
    }
}
