//! The database's whole log: its order, and subscriptions to it.

use eventstore::{ExpectedRevision, Position, ReadAllOptions, RecordedEvent, StreamPosition, SubscriptionEvent};
use uuid::Uuid;

use super::database::{Database, Following, append, event, events};
use super::said;
use crate::store::conformance::{Outcome, ensure, ensure_eq};

fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

impl Database {
    /// Follows the streams of this rule whose names go on with `.`, as a log does.
    async fn follow(&self, after: StreamPosition<Position>) -> Following {
        Following::begin(&self.client, &[format!("{}.", self.prefix)], after, 32).await
    }
}

pub(super) async fn a_subscription_is_confirmed_first_and_says_when_it_has_caught_up(database: Database) -> Outcome {
    let stream = database.stream("a");
    let (mut ids, old) = events(3)?;
    database.write(&stream, ExpectedRevision::NoStream, &old).await?;
    let mut following = database.follow(database.start).await;
    let first = following.next().await?;
    ensure!(matches!(first, SubscriptionEvent::Confirmed(_)), "the first message is {first:?}");
    let mut received = Vec::new();
    loop {
        match following.next().await? {
            SubscriptionEvent::EventAppeared(event) => received.extend(event.event.map(|event| event.id)),
            SubscriptionEvent::CaughtUp => break,
            SubscriptionEvent::Checkpoint(_) => {}
            other => return Err(format!("{other:?} before it has caught up")),
        }
    }
    ensure_eq!("events before it has caught up", received, ids);
    let (id, new) = event()?;
    database.write(&stream, ExpectedRevision::Exact(2), &[new]).await?;
    received.push(following.event().await?.id);
    ids.push(id);
    ensure_eq!("events", received, ids);
    Ok("confirmation, 3 old events, caught up, 1 new event".to_owned())
}

pub(super) async fn two_clients_receive_all_events_in_the_order_of_their_commits(database: Database) -> Outcome {
    let mut before = database.follow(database.start).await;
    // The client subscribes when the first message is taken.
    before.next().await?;
    let mut written = Vec::new();
    for number in 0..40_u64 {
        let client = if number % 2 == 0 { &database.client } else { &database.other };
        let stream = database.stream(&format!("s{}", number % 4));
        let expected = (number / 4).checked_sub(1).map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        let (id, event) = event()?;
        append(client, &stream, expected, &[event]).await.map_err(|error| said(&error))?;
        written.push(id);
    }
    let live = before.take(written.len()).await?;
    let prefixes = [format!("{}.", database.prefix)];
    let later = Following::begin(&database.other, &prefixes, database.start, 32).await.take(written.len()).await?;
    ensure_eq!("events while they were written", ids(&live), written);
    ensure_eq!("events of another client later", ids(&later), written);
    let places = |events: &[RecordedEvent]| events.iter().map(|event| event.position).collect::<Vec<_>>();
    ensure_eq!("their positions", places(&later), places(&live));
    ensure!(places(&live).is_sorted_by(|a, b| a < b), "positions that don't grow: {:?}", places(&live));
    Ok("40 events in 4 streams, the same order and positions".to_owned())
}

pub(super) async fn a_subscription_continues_after_the_event_where_the_last_one_ended(database: Database) -> Outcome {
    let (ids, events) = events(10)?;
    database.write(&database.stream("a"), ExpectedRevision::NoStream, &events).await?;
    let mut first = database.follow(database.start).await;
    let received = first.take(4).await?;
    let place = received.last().map(|event| event.position).ok_or("no event")?;
    let rest = database.follow(StreamPosition::Position(place)).await.take(6).await?;
    let received: Vec<_> = received.iter().chain(&rest).map(|event| event.id).collect();
    ensure_eq!("the events of both", received, ids);
    Ok("4 events, then the other 6".to_owned())
}

pub(super) async fn a_subscription_continues_after_a_checkpoint(database: Database) -> Outcome {
    let (ids, wanted) = events(2)?;
    database.write(&database.stream("a"), ExpectedRevision::NoStream, wanted.get(..1).unwrap_or_default()).await?;
    let mut following = database.follow(database.start).await;
    ensure_eq!("the first event", Some(following.event().await?.id), ids.first().copied());
    let (_, unwanted) = events(100)?;
    // Not followed: the name goes on with another character.
    let beside = format!("{}_aux.b", database.prefix);
    let beside = database.write(&beside, ExpectedRevision::NoStream, &unwanted).await?;
    let checkpoint = loop {
        match following.next().await? {
            SubscriptionEvent::Checkpoint(place) => break place,
            SubscriptionEvent::EventAppeared(event) => return Err(format!("an event of another stream: {event:?}")),
            _ => {}
        }
    };
    ensure!(checkpoint <= beside.position, "the checkpoint {checkpoint:?} lies beyond {:?}", beside.position);
    database.write(&database.stream("a"), ExpectedRevision::Exact(0), wanted.get(1..).unwrap_or_default()).await?;
    let next = database.follow(StreamPosition::Position(checkpoint)).await.event().await?;
    ensure_eq!("the event after the checkpoint", Some(next.id), ids.last().copied());
    Ok("a checkpoint among 100 events of others, then the next event".to_owned())
}

pub(super) async fn an_event_is_read_at_its_own_position(database: Database) -> Outcome {
    let (ids, events) = events(5)?;
    database.write(&database.stream("a"), ExpectedRevision::NoStream, &events).await?;
    for (event, id) in database.follow(database.start).await.take(5).await?.iter().zip(ids) {
        let options = ReadAllOptions::default().position(StreamPosition::Position(event.position)).max_count(1);
        let read = async { database.client.read_all(&options).await?.next().await };
        let read = read.await.map_err(|error| said(&error))?.and_then(|read| read.event);
        ensure_eq!("the event", read.map(|event| event.id), Some(id));
    }
    Ok("5 events".to_owned())
}
