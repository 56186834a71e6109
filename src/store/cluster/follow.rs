//! The follower: one subscription to the database's whole log, filtered by the prefix. It assigns positions and hashes to
//! the events in the order of delivery. The filter and the order are the same for each server, so the positions and hashes
//! are too.
//!
//! A separate task waits for the subscription's messages and sends them through a bounded channel, because the future of the
//! client's `next` must not be dropped while it waits.
//!
//! When a subscription ends, the next one continues after the last known database position. Before it continues, the
//! follower reads the last event again and checks that it is still the event that was delivered.

use std::sync::Arc;
use std::time::Duration;

use eventstore::{Client, ReadAllOptions, RecordedEvent, StreamPosition, Subscription, SubscriptionEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use uuid::Uuid;

use super::client::error_message;
use super::index::DatabasePosition;
use super::state::ClusterState;
use super::supervise::{SessionRunner, panic_text};
use super::{connect, read, record};
use crate::store::{Head, ReadError, Recorded};

/// The largest number of messages that wait in the channel.
const CHANNEL_CAPACITY: usize = 1024;
/// The largest number of messages whose events are published together.
const BATCH_MAX: usize = 512;
/// The type of the event with which the database deletes a stream permanently.
const TOMBSTONE: &str = "$streamDeleted";
/// A subscription that lasts longer than this counts as progress, even if no event came.
const USEFUL_AFTER: Duration = Duration::from_secs(1);

/// Runs the sessions that subscribe to the log and deliver its events.
pub(super) struct Follower {
    state: Arc<ClusterState>,
    assigner: PositionAssigner,
    has_progressed: bool,
}

/// Assigns positions and hashes to the delivered events, and knows where the next subscription continues.
struct PositionAssigner {
    head: Head,
    /// The next subscription continues after this position: that of the last event, or of a later checkpoint.
    resume_after: Option<DatabasePosition>,
    /// Position and id of the last delivered event.
    last_event: Option<(DatabasePosition, Uuid)>,
    /// The newest checkpoint of the current subscription.
    checkpoint: Option<DatabasePosition>,
}

impl Follower {
    pub(super) fn new(state: Arc<ClusterState>) -> Self {
        let assigner =
            PositionAssigner { resume_after: state.url.read_after, ..PositionAssigner::new(state.recent.head()) };
        Self { state, assigner, has_progressed: false }
    }

    /// Subscribes and delivers events until the subscription ends.
    ///
    /// # Errors
    /// Why it has ended; it never returns `Ok`.
    async fn follow(&mut self) -> Result<(), String> {
        if let Some(failure) = self.state.failure() {
            return Err(failure.to_string());
        }
        let client = connect::connect(&self.state).await?;
        self.check_last_event(&client).await?;
        let subscription =
            client.subscribe_to_all(&read::log_subscription_options(&self.state, self.assigner.resume_after)).await;
        self.assigner.checkpoint = None;
        let (messages, mut received) = mpsc::channel(CHANNEL_CAPACITY);
        let receiving = tokio::spawn(forward_messages(subscription, messages));
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = received.recv_many(&mut batch, BATCH_MAX) => if count == 0 { break },
                () = self.state.resubscribe.notified() => {
                    return Err("an append was not delivered in time".to_owned());
                }
            }
            if let Err(failure) = self.deliver(batch.drain(..)) {
                self.state.fail(failure.clone());
                return Err(failure.to_string());
            }
        }
        Err(end_reason(receiving).await)
    }

    /// Reads the last delivered event again. If the database holds another event at its position, the log fails.
    async fn check_last_event(&self, client: &Client) -> Result<(), String> {
        let Some((database_position, id)) = self.assigner.last_event else { return Ok(()) };
        let options =
            ReadAllOptions::default().position(StreamPosition::Position(database_position.into())).max_count(1);
        let read = async { client.read_all(&options).await?.next().await };
        let found = tokio::time::timeout(Duration::from_secs(3), read).await;
        let found = found
            .map_err(|_| "the last event was not read in time".to_owned())?
            .map_err(|error| error_message(&error))?;
        if found.and_then(|found| found.event).is_some_and(|event| event.id == id) {
            return Ok(());
        }
        let position = self.assigner.head.position;
        let failure =
            ReadError::Damaged(format!("the database holds another event at position {position} than before"));
        self.state.fail(failure.clone());
        Err(failure.to_string())
    }

    /// Assigns positions to the events of these messages and publishes them. Then applies the state changes that the other
    /// messages announce.
    fn deliver(&mut self, messages: impl Iterator<Item = SubscriptionEvent>) -> Result<(), ReadError> {
        let (mut events, mut state_changes, mut failure) = (Vec::new(), Vec::<fn(&ClusterState)>::new(), None);
        for message in messages {
            match message {
                SubscriptionEvent::EventAppeared(event) => {
                    match event.event.map_or(Ok(None), |event| self.assigner.assign_position(&self.state, &event)) {
                        Ok(event) => events.extend(event.map(Arc::new)),
                        Err(error) => {
                            failure = Some(error);
                            break;
                        }
                    }
                }
                SubscriptionEvent::Checkpoint(database_position) => {
                    self.assigner.note_checkpoint(database_position.into());
                }
                SubscriptionEvent::Confirmed(_) => state_changes.push(ClusterState::subscription_confirmed),
                SubscriptionEvent::CaughtUp => state_changes.push(ClusterState::subscription_caught_up),
                SubscriptionEvent::FellBehind => state_changes.push(ClusterState::subscription_fell_behind),
                SubscriptionEvent::FirstStreamPosition(_)
                | SubscriptionEvent::LastStreamPosition(_)
                | SubscriptionEvent::LastAllPosition(_) => {}
            }
        }
        self.publish(events);
        for change_state in state_changes {
            change_state(&self.state);
        }
        failure.map_or(Ok(()), Err)
    }

    fn publish(&mut self, events: Vec<Arc<Recorded>>) {
        if events.is_empty() {
            return;
        }
        self.has_progressed = true;
        self.state.recent.publish(events, self.assigner.head);
    }
}

impl SessionRunner for Follower {
    async fn run(&mut self) -> String {
        let started_at = Instant::now();
        let ended = self.follow().await;
        self.has_progressed |= started_at.elapsed() > USEFUL_AFTER && self.state.is_subscribed();
        ended.err().unwrap_or_default()
    }

    fn session_ended(&mut self, why: String) {
        if self.state.is_subscribed() {
            self.state.client.drop_client(&why);
        }
        self.state.subscription_ended(why);
    }

    fn last_session_progressed(&mut self) -> bool {
        std::mem::take(&mut self.has_progressed)
    }
}

/// Sends the subscription's messages through the channel until the subscription ends. Returns why it has ended.
pub(super) async fn forward_messages(
    mut subscription: Subscription,
    messages: mpsc::Sender<SubscriptionEvent>,
) -> String {
    loop {
        match subscription.next_subscription_event().await {
            Ok(message) => {
                if messages.send(message).await.is_err() {
                    return "nothing receives the messages".to_owned();
                }
            }
            Err(error) => return error_message(&error),
        }
    }
}

/// Waits for the end of the task that runs [`forward_messages`]. Returns why it has ended.
pub(super) async fn end_reason(receiving: JoinHandle<String>) -> String {
    match receiving.await {
        Ok(why) => why,
        Err(error) => error.try_into_panic().map_or_else(|error| error.to_string(), |panic| panic_text(&*panic)),
    }
}

impl PositionAssigner {
    fn new(head: Head) -> Self {
        Self { head, resume_after: None, last_event: None, checkpoint: None }
    }

    /// Records a checkpoint. A checkpoint is used only after the next one has come: when a subscription catches up, some
    /// versions of the database send a checkpoint first and the events before it later.
    fn note_checkpoint(&mut self, checkpoint: DatabasePosition) {
        self.resume_after = self.resume_after.max(self.checkpoint.replace(checkpoint));
    }

    /// Returns the event with its position and hash. `None` if the event is not part of the log, or was already delivered.
    fn assign_position(&mut self, state: &ClusterState, event: &RecordedEvent) -> Result<Option<Recorded>, ReadError> {
        let database_position = DatabasePosition::from(event.position);
        if self.last_event.is_some_and(|(last, _)| database_position <= last) {
            return Ok(None);
        }
        let names = &state.url.names;
        if let Some(stream) = names.owner_of_metadata_stream(&event.stream_id) {
            return check_metadata(stream, event).map(|()| None);
        }
        let Some(stream) = names.log_name(&event.stream_id) else { return Ok(None) };
        if event.event_type == TOMBSTONE {
            return Err(ReadError::Damaged(format!("{stream} was deleted in the database")));
        }
        let decoded = record::decode(stream, event).map_err(|error| self.at_next_position(error))?;
        check_revision(state, stream, event.revision)?;
        let positioned = record::assign_position(decoded, &mut self.head);
        state.index.add(stream, self.head, database_position);
        (self.resume_after, self.last_event) = (Some(database_position), Some((database_position, event.id)));
        Ok(Some(positioned))
    }

    /// The error with the position that the undecoded event would have got.
    fn at_next_position(&self, error: ReadError) -> ReadError {
        let position = Some(crate::task::Position(self.head.position.0 + 1));
        match error {
            ReadError::Unknown { event_type, version, .. } => ReadError::Unknown { position, event_type, version },
            ReadError::Damaged(_) | ReadError::Unavailable(_) => error,
        }
    }
}

/// Checks that the stream's events are delivered in order and without gaps.
fn check_revision(state: &ClusterState, stream: &str, revision: u64) -> Result<(), ReadError> {
    let next = state.index.delivered_count(stream);
    if next == revision {
        return Ok(());
    }
    Err(ReadError::Damaged(format!(
        "{stream} should continue with revision {next}, and revision {revision} was delivered"
    )))
}

/// Checks that a stream's metadata doesn't let the database remove events.
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
        let position_at = |commit| DatabasePosition::from(eventstore::Position { commit, prepare: commit });
        let mut log = PositionAssigner::new(Head { position: Position(0), hash: Hash::ZERO, time: None });
        let mut begins = Vec::new();
        for checkpoint in [10, 20, 30] {
            log.note_checkpoint(position_at(checkpoint));
            begins.push(log.resume_after);
        }
        assert_eq!(begins, [None, Some(position_at(10)), Some(position_at(20))]);
        log.resume_after = Some(position_at(40));
        log.note_checkpoint(position_at(50));
        assert_eq!(log.resume_after, Some(position_at(40)), "the last event is later than the checkpoint");
    }
}
