//! Checks of the database's whole log: its order, and subscriptions to it.

use eventstore::{ExpectedRevision, Position, ReadAllOptions, RecordedEvent, StreamPosition, SubscriptionEvent};
use uuid::Uuid;

use super::database::{FilteredSubscription, RuleContext, append_with, new_event, new_events};
use super::error_text;
use crate::store::conformance::{CheckResult, ensure, ensure_eq};

fn ids(events: &[RecordedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.id).collect()
}

impl RuleContext {
    /// Subscribes to the streams of this rule whose names continue with `.` after the prefix. A log subscribes in the same
    /// way.
    async fn follow(&self, after: StreamPosition<Position>) -> FilteredSubscription {
        FilteredSubscription::begin(&self.client, &[format!("{}.", self.prefix)], after, 32).await
    }
}

pub(super) async fn a_subscription_is_confirmed_first_and_reports_when_it_has_caught_up(
    context: RuleContext,
) -> CheckResult {
    let stream = context.stream("a");
    let (mut ids, old) = new_events(3)?;
    context.append(&stream, ExpectedRevision::NoStream, &old).await?;
    let mut subscription = context.follow(context.start).await;
    let first = subscription.next().await?;
    ensure!(matches!(first, SubscriptionEvent::Confirmed(_)), "the first message is {first:?}");
    let mut received = Vec::new();
    loop {
        match subscription.next().await? {
            SubscriptionEvent::EventAppeared(event) => received.extend(event.event.map(|event| event.id)),
            SubscriptionEvent::CaughtUp => break,
            SubscriptionEvent::Checkpoint(_) => {}
            other => return Err(format!("{other:?} before it has caught up")),
        }
    }
    ensure_eq!("events before it has caught up", received, ids);
    let (id, new) = new_event()?;
    context.append(&stream, ExpectedRevision::Exact(2), &[new]).await?;
    received.push(subscription.next_event().await?.id);
    ids.push(id);
    ensure_eq!("events", received, ids);
    Ok("confirmation, 3 old events, caught up, 1 new event".to_owned())
}

pub(super) async fn two_clients_receive_all_events_in_the_order_of_their_commits(context: RuleContext) -> CheckResult {
    let mut live_subscription = context.follow(context.start).await;
    // The client subscribes only when the first message is requested.
    live_subscription.next().await?;
    let mut written = Vec::new();
    for number in 0..40_u64 {
        let client = if number % 2 == 0 { &context.client } else { &context.second_client };
        let stream = context.stream(&format!("s{}", number % 4));
        let expected = (number / 4).checked_sub(1).map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        let (id, event) = new_event()?;
        append_with(client, &stream, expected, &[event]).await.map_err(|error| error_text(&error))?;
        written.push(id);
    }
    let live = live_subscription.take_events(written.len()).await?;
    let prefixes = [format!("{}.", context.prefix)];
    let later = FilteredSubscription::begin(&context.second_client, &prefixes, context.start, 32)
        .await
        .take_events(written.len())
        .await?;
    ensure_eq!("events while they were written", ids(&live), written);
    ensure_eq!("events of another client later", ids(&later), written);
    let positions = |events: &[RecordedEvent]| events.iter().map(|event| event.position).collect::<Vec<_>>();
    ensure_eq!("their positions", positions(&later), positions(&live));
    ensure!(positions(&live).is_sorted_by(|a, b| a < b), "positions that don't grow: {:?}", positions(&live));
    Ok("40 events in 4 streams, the same order and positions".to_owned())
}

pub(super) async fn a_subscription_continues_after_the_event_where_the_last_one_ended(
    context: RuleContext,
) -> CheckResult {
    let (ids, events) = new_events(10)?;
    context.append(&context.stream("a"), ExpectedRevision::NoStream, &events).await?;
    let mut first_subscription = context.follow(context.start).await;
    let received = first_subscription.take_events(4).await?;
    let position = received.last().map(|event| event.position).ok_or("no event")?;
    let rest = context.follow(StreamPosition::Position(position)).await.take_events(6).await?;
    let received: Vec<_> = received.iter().chain(&rest).map(|event| event.id).collect();
    ensure_eq!("the events of both", received, ids);
    Ok("4 events, then the other 6".to_owned())
}

pub(super) async fn a_subscription_continues_after_a_checkpoint(context: RuleContext) -> CheckResult {
    let (ids, wanted) = new_events(2)?;
    context.append(&context.stream("a"), ExpectedRevision::NoStream, wanted.get(..1).unwrap_or_default()).await?;
    let mut subscription = context.follow(context.start).await;
    ensure_eq!("the first event", Some(subscription.next_event().await?.id), ids.first().copied());
    let (_, unwanted) = new_events(100)?;
    // The filter leaves this stream out, because its name continues with another character than `.` after the prefix.
    let unfollowed = format!("{}_aux.b", context.prefix);
    let unfollowed_write = context.append(&unfollowed, ExpectedRevision::NoStream, &unwanted).await?;
    let checkpoint = loop {
        match subscription.next().await? {
            SubscriptionEvent::Checkpoint(position) => break position,
            SubscriptionEvent::EventAppeared(event) => return Err(format!("an event of another stream: {event:?}")),
            _ => {}
        }
    };
    ensure!(
        checkpoint <= unfollowed_write.position,
        "the checkpoint {checkpoint:?} lies beyond {:?}",
        unfollowed_write.position
    );
    context.append(&context.stream("a"), ExpectedRevision::Exact(0), wanted.get(1..).unwrap_or_default()).await?;
    let next = context.follow(StreamPosition::Position(checkpoint)).await.next_event().await?;
    ensure_eq!("the event after the checkpoint", Some(next.id), ids.last().copied());
    Ok("a checkpoint among 100 events of others, then the next event".to_owned())
}

pub(super) async fn an_event_is_read_at_its_own_position(context: RuleContext) -> CheckResult {
    let (ids, events) = new_events(5)?;
    context.append(&context.stream("a"), ExpectedRevision::NoStream, &events).await?;
    for (event, id) in context.follow(context.start).await.take_events(5).await?.iter().zip(ids) {
        let options = ReadAllOptions::default().position(StreamPosition::Position(event.position)).max_count(1);
        let read = async { context.client.read_all(&options).await?.next().await };
        let read = read.await.map_err(|error| error_text(&error))?.and_then(|read| read.event);
        ensure_eq!("the event", read.map(|event| event.id), Some(id));
    }
    Ok("5 events".to_owned())
}
