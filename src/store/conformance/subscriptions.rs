//! Checks of subscriptions, and of the head, whose changes a subscription waits for.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;

use super::sample::{
    append, attempt_failed_at, first, lines, long_append, must_append, new_event, next, stream, stream_events,
    try_append, try_append_many,
};
use super::{CheckResult, ensure, ensure_eq};
use crate::store::{EventStore, Expected, LogSubscription, Recorded};
use crate::task::{Position, Revision};

async fn next_events(subscription: &mut LogSubscription) -> Result<Vec<Arc<Recorded>>, String> {
    subscription.next().await.map_err(|error| error.to_string())
}

fn positions(events: &[Arc<Recorded>]) -> Vec<u64> {
    events.iter().map(|event| event.position.0).collect()
}

pub(super) async fn a_subscription_and_a_later_read_return_the_same_event(store: EventStore) -> CheckResult {
    let mut subscription = store.subscribe(Position(0));
    let task = stream();
    let nan_event = new_event(attempt_failed_at(f64::NAN));
    must_append(&store, append(&task, Expected::NoStream, vec![nan_event])).await?;
    let received = next_events(&mut subscription).await?;
    let read = stream_events(&store, &task).await?;
    ensure_eq!("the event", lines(&received), lines(&read));
    ensure_eq!("what it says", received.first().map(|event| &event.event), read.first().map(|event| &event.event));
    Ok("the same event".to_owned())
}

pub(super) async fn an_acknowledged_append_is_included_in_the_head(store: EventStore) -> CheckResult {
    let head = store.head_changes();
    for position in 1..=20 {
        must_append(&store, first(&stream(), "t")).await?;
        let seen = (store.head().position, *head.borrow());
        ensure_eq!("the head", seen, (Position(position), Position(position)));
        let read = store.read_all(Position(position - 1), 10).await.map_err(|error| error.to_string())?;
        let last = read.last().map(|event| (event.hash, Some(event.time)));
        ensure_eq!("hash and time", Some((store.head().hash, store.head().time)), last);
    }
    Ok("20 times".to_owned())
}

pub(super) async fn a_subscription_gives_old_events_and_then_new_ones(store: EventStore) -> CheckResult {
    let written = try_append_many(&store, (0..6).map(|_| long_append(400)).collect()).await;
    ensure!(written.iter().all(Result::is_ok), "{written:?}");
    let mut subscription = store.subscribe(Position(100));
    for (from, length) in [(101, 1000), (1101, 1000), (2101, 300)] {
        let events = positions(&next_events(&mut subscription).await?);
        ensure_eq!("old events", events, (from..from + length).collect::<Vec<_>>());
    }
    let (live, appended) = tokio::join!(next_events(&mut subscription), try_append(&store, first(&stream(), "new")));
    ensure_eq!("a new event", (positions(&live?), appended), (vec![2401], Ok(Revision(0))));
    let mut future_subscription = store.subscribe(Position(2403));
    try_append_many(&store, (0..3).map(|_| first(&stream(), "new")).collect()).await;
    ensure_eq!("an event to come", positions(&next_events(&mut future_subscription).await?), [2404]);
    Ok("2,300 old events, then 4 new ones".to_owned())
}

const WRITERS: u64 = 8;

pub(super) async fn a_subscription_gives_each_event_once_while_others_write(store: EventStore) -> CheckResult {
    // Each append to a cluster is a request of its own.
    let events_each = if store.is_shared() { 200 } else { 1500 };
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(write_stream(store.clone(), events_each))).collect();
    let readers: Vec<_> = (0..3)
        .map(|_| tokio::spawn(check_each_event_once(store.subscribe(Position(0)), WRITERS * events_each)))
        .collect();
    for ended in join_all(readers.into_iter().chain(writers)).await {
        ended.map_err(|error| error.to_string())??;
    }
    Ok(format!("3 subscribers, {} events each, in order", WRITERS * events_each))
}

/// Checks that the subscription gives this number of events, each once and in order.
async fn check_each_event_once(mut subscription: LogSubscription, events: u64) -> Result<(), String> {
    let (mut position, mut revisions) = (0, HashMap::new());
    while position < events {
        let received = next_events(&mut subscription).await?;
        ensure!((1..=1000).contains(&received.len()), "{} events at once", received.len());
        for event in received {
            position += 1;
            let revision: &mut u64 = revisions.entry(event.stream.clone()).or_default();
            ensure_eq!("place", (event.position, event.revision), (Position(position), Revision(*revision)));
            *revision += 1;
        }
    }
    Ok(())
}

/// Writes a stream with this number of events, ten appends at a time.
async fn write_stream(store: EventStore, events: u64) -> Result<(), String> {
    let task = stream();
    must_append(&store, first(&task, "busy")).await?;
    for revision in (0..events - 1).step_by(10) {
        let length = (events - 1 - revision).min(10);
        let appends = (revision..revision + length).map(|revision| next(&task, revision)).collect();
        let written = try_append_many(&store, appends).await;
        ensure!(written.iter().all(Result::is_ok), "{written:?}");
    }
    Ok(())
}

pub(super) async fn a_wait_for_the_next_events_can_be_dropped_without_losing_any(store: EventStore) -> CheckResult {
    let mut subscription = store.subscribe(Position(0));
    for position in 1..=5 {
        tokio::select! {
            biased;
            early = subscription.next() => return Err(format!("before there is an event: {early:?}")),
            () = std::future::ready(()) => {}
        }
        must_append(&store, first(&stream(), "t")).await?;
        ensure_eq!("events", positions(&next_events(&mut subscription).await?), [position]);
    }
    Ok("5 waits dropped, 5 events".to_owned())
}
