//! The follower: one subscription to the database's whole log, filtered by the prefix. It numbers the events as they are
//! delivered and links their hashes; filter and order are the same for each server, so the numbers are too.
//!
//! A task of its own waits for the subscription's messages, and hands them on through a bounded channel: the client's `next`
//! must not be given up while it waits. After any end a new subscription continues behind the last place that is known,
//! once the event there is seen to be the one that was delivered.

use std::sync::Arc;
use std::time::Duration;

use eventstore::{Client, ReadAllOptions, RecordedEvent, StreamPosition, Subscription, SubscriptionEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::client::describe;
use super::index::Place;
use super::shared::Shared;
use super::supervise::{Session, panic_text};
use super::{connect, read, record};
use crate::store::{Head, ReadError, Recorded};

/// Messages that wait to be numbered.
const CHANNEL: usize = 1024;
/// Messages that are numbered before the events are published together.
const BATCH: usize = 512;
/// The type of the event that ends a stream for ever.
const TOMBSTONE: &str = "$streamDeleted";
/// A subscription that held for so long was of use, also where no event came.
const USEFUL: Duration = Duration::from_secs(1);

pub(super) struct Follower {
    shared: Arc<Shared>,
    log: Numbering,
    has_progressed: bool,
}

/// How far the log was delivered.
struct Numbering {
    head: Head,
    /// Where the next subscription begins: the place of the last event, or of a later checkpoint.
    place: Option<Place>,
    last: Option<(Place, Uuid)>,
    /// The newest checkpoint of this subscription.
    checkpoint: Option<Place>,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let log = Numbering { place: shared.url.start, ..Numbering::new(shared.recent.head()) };
        Self { shared, log, has_progressed: false }
    }

    async fn follow(&mut self) -> Result<(), String> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure.to_string());
        }
        let client = connect::connect(&self.shared).await?;
        self.check_place(&client).await?;
        let subscription = client.subscribe_to_all(&read::subscription(&self.shared, self.log.place)).await;
        self.log.checkpoint = None;
        let (messages, mut received) = mpsc::channel(CHANNEL);
        let receiving = tokio::spawn(receive(subscription, messages));
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = received.recv_many(&mut batch, BATCH) => if count == 0 { break },
                () = self.shared.resubscribe.notified() => {
                    return Err("an append was not delivered in time".to_owned());
                }
            }
            if let Err(failure) = self.deliver(batch.drain(..)) {
                self.shared.fail(failure.clone());
                return Err(failure.to_string());
            }
        }
        Err(ended(receiving).await)
    }

    /// Compares the event at the last place with the one that was delivered.
    async fn check_place(&self, client: &Client) -> Result<(), String> {
        let Some((place, id)) = self.log.last else { return Ok(()) };
        let options = ReadAllOptions::default().position(StreamPosition::Position(place.into())).max_count(1);
        let read = async { client.read_all(&options).await?.next().await };
        let there = tokio::time::timeout(Duration::from_secs(3), read).await;
        let there =
            there.map_err(|_| "the last event was not read in time".to_owned())?.map_err(|error| describe(&error))?;
        if there.and_then(|there| there.event).is_some_and(|event| event.id == id) {
            return Ok(());
        }
        let position = self.log.head.position;
        let failure =
            ReadError::Damaged(format!("the database holds another event at position {position} than before"));
        self.shared.fail(failure.clone());
        Err(failure.to_string())
    }

    /// Numbers the events and publishes them; then the subscription's other messages take effect.
    fn deliver(&mut self, messages: impl Iterator<Item = SubscriptionEvent>) -> Result<(), ReadError> {
        let (mut events, mut changes, mut failure) = (Vec::new(), Vec::<fn(&Shared)>::new(), None);
        for message in messages {
            match message {
                SubscriptionEvent::EventAppeared(event) => {
                    match event.event.map_or(Ok(None), |event| self.log.accept(&self.shared, &event)) {
                        Ok(event) => events.extend(event.map(Arc::new)),
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
                SubscriptionEvent::Checkpoint(place) => self.log.note_checkpoint(place.into()),
                SubscriptionEvent::Confirmed(_) => changes.push(Shared::subscribed),
                SubscriptionEvent::CaughtUp => changes.push(Shared::caught_up),
                SubscriptionEvent::FellBehind => changes.push(Shared::fell_behind),
                SubscriptionEvent::FirstStreamPosition(_)
                | SubscriptionEvent::LastStreamPosition(_)
                | SubscriptionEvent::LastAllPosition(_) => {}
            }
        }
        self.publish(events);
        for change in changes {
            change(&self.shared);
        }
        failure.map_or(Ok(()), Err)
    }

    fn publish(&mut self, events: Vec<Arc<Recorded>>) {
        if events.is_empty() {
            return;
        }
        self.has_progressed = true;
        self.shared.recent.publish(events, self.log.head);
    }
}

impl Session for Follower {
    async fn run(&mut self) -> String {
        let begun = Instant::now();
        let ended = self.follow().await;
        self.has_progressed |= begun.elapsed() > USEFUL && self.shared.is_subscribed();
        ended.err().unwrap_or_default()
    }

    fn ended(&mut self, why: String) {
        if self.shared.is_subscribed() {
            self.shared.connection.give_up(&why);
        }
        self.shared.subscription_ended(why);
    }

    fn has_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }
}

/// Hands on what the subscription gives until it ends; why it has.
pub(super) async fn receive(mut subscription: Subscription, messages: mpsc::Sender<SubscriptionEvent>) -> String {
    loop {
        match subscription.next_subscription_event().await {
            Ok(message) => {
                if messages.send(message).await.is_err() {
                    return "nothing receives the messages".to_owned();
                }
            }
            Err(error) => return describe(&error),
        }
    }
}

pub(super) async fn ended(receiving: JoinHandle<String>) -> String {
    match receiving.await {
        Ok(why) => why,
        Err(error) => error.try_into_panic().map_or_else(|error| error.to_string(), |panic| panic_text(&*panic)),
    }
}

impl Numbering {
    fn new(head: Head) -> Self {
        Self { head, place: None, last: None, checkpoint: None }
    }

    /// A checkpoint counts once there is another one. Some versions of the database send the one at the moment of catching
    /// up before the events that lie before it.
    fn note_checkpoint(&mut self, checkpoint: Place) {
        self.place = self.place.max(self.checkpoint.replace(checkpoint));
    }

    /// The event with its position and hash; none where it has none or was delivered before.
    fn accept(&mut self, shared: &Shared, event: &RecordedEvent) -> Result<Option<Recorded>, ReadError> {
        let place = Place::from(event.position);
        if self.last.is_some_and(|(last, _)| place <= last) {
            return Ok(None);
        }
        let names = &shared.url.names;
        if let Some(stream) = names.described(&event.stream_id) {
            return check_metadata(stream, event).map(|()| None);
        }
        let Some(stream) = names.shown(&event.stream_id) else { return Ok(None) };
        if event.event_type == TOMBSTONE {
            return Err(ReadError::Damaged(format!("{stream} was deleted in the database")));
        }
        let decoded = record::decode(stream, event).map_err(|error| self.at_next_position(error))?;
        check_revision(shared, stream, event.revision)?;
        let numbered = record::number(decoded, &mut self.head);
        shared.index.add(stream, self.head, place);
        (self.place, self.last) = (Some(place), Some((place, event.id)));
        Ok(Some(numbered))
    }

    fn at_next_position(&self, error: ReadError) -> ReadError {
        let position = Some(crate::task::Position(self.head.position.0 + 1));
        match error {
            ReadError::Unknown { kind, version, .. } => ReadError::Unknown { position, kind, version },
            ReadError::Damaged(_) | ReadError::Unavailable(_) => error,
        }
    }
}

/// A stream's events are delivered in order and without gaps.
fn check_revision(shared: &Shared, stream: &str, revision: u64) -> Result<(), ReadError> {
    let next = shared.index.length(stream);
    if next == revision {
        return Ok(());
    }
    Err(ReadError::Damaged(format!(
        "{stream} should continue with revision {next}, and revision {revision} was delivered"
    )))
}

/// Refuses settings that let the database forget events.
fn check_metadata(stream: &str, event: &RecordedEvent) -> Result<(), ReadError> {
    let metadata: serde_json::Value = serde_json::from_slice(&event.data).unwrap_or_default();
    match ["$maxAge", "$maxCount", "$tb"].iter().find(|key| metadata.get(**key).is_some_and(|set| !set.is_null())) {
        Some(key) => {
            Err(ReadError::Damaged(format!("{stream} has {key} in its metadata, so the database forgets its events")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Hash;
    use crate::task::Position;

    #[test]
    fn a_checkpoint_counts_once_there_is_another_one() {
        let place = |commit| Place::from(eventstore::Position { commit, prepare: commit });
        let mut log = Numbering::new(Head { position: Position(0), hash: Hash::ZERO, time: None });
        let mut begins = Vec::new();
        for checkpoint in [10, 20, 30] {
            log.note_checkpoint(place(checkpoint));
            begins.push(log.place);
        }
        assert_eq!(begins, [None, Some(place(10)), Some(place(20))]);
        log.place = Some(place(40));
        log.note_checkpoint(place(50));
        assert_eq!(log.place, Some(place(40)), "the last event lies later");
    }
}
