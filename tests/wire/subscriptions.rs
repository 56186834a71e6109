//! Subscriptions to the stand-in database.

use eventstore::Error;

use super::*;

fn seen(kind: &str) -> ReceivedMessage {
    ReceivedMessage::Event(kind.to_owned())
}

fn prefix(prefix: &str) -> SubscriptionFilter {
    SubscriptionFilter::on_stream_name().add_prefix(prefix)
}

#[tokio::test]
async fn a_subscriber_gets_the_confirmation_the_history_caught_up_and_live_events() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, None);
    assert_eq!(
        subscription.take(4).await,
        [ReceivedMessage::Confirmed, seen("One"), seen("Two"), ReceivedMessage::CaughtUp]
    );
    fixture.append("b-1", ExpectedRevision::NoStream, events(&["Three"])).await.unwrap();
    assert_eq!(subscription.take(1).await, [seen("Three")]);
}

#[tokio::test]
async fn a_filtered_subscriber_gets_only_the_streams_of_its_prefix() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    fixture.append("b-1", ExpectedRevision::NoStream, events(&["Two"])).await.unwrap();
    let last = fixture.append("a-2", ExpectedRevision::NoStream, events(&["Three"])).await.unwrap();
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(prefix("a-")));
    let checkpoint = ReceivedMessage::Checkpoint(last.position);
    assert_eq!(
        subscription.take(5).await,
        [ReceivedMessage::Confirmed, seen("One"), seen("Three"), checkpoint, ReceivedMessage::CaughtUp]
    );
    fixture.append("b-1", ExpectedRevision::Any, events(&["Four"])).await.unwrap();
    fixture.append("a-1", ExpectedRevision::Any, events(&["Five"])).await.unwrap();
    assert_eq!(subscription.take(1).await, [seen("Five")]);
}

#[tokio::test]
async fn filters_take_patterns_on_streams_and_types() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["Made", "Moved"])).await.unwrap();
    fixture.append("b-1", ExpectedRevision::NoStream, events(&["Made"])).await.unwrap();
    fixture.append("$c", ExpectedRevision::NoStream, events(&["Noise"])).await.unwrap();
    let expect = |filter, kinds: Vec<ReceivedMessage>| {
        let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(filter));
        async move {
            let seen = subscription.take(kinds.len() + 1).await;
            assert_eq!(seen[1..], kinds);
        }
    };
    expect(SubscriptionFilter::on_event_type().add_prefix("Mo"), vec![seen("Moved")]).await;
    expect(SubscriptionFilter::on_event_type().regex("^M.*e$"), vec![seen("Made"), seen("Made")]).await;
    // The Python client's filter looks ahead.
    let streams = SubscriptionFilter::on_stream_name().regex(r"^(?!\$)(?!a).*");
    expect(streams, vec![seen("Made")]).await;
    let no_system = SubscriptionFilter::on_stream_name().exclude_system_events();
    expect(no_system, vec![seen("Made"), seen("Moved"), seen("Made")]).await;
}

#[tokio::test]
async fn an_invalid_pattern_is_refused() {
    let fixture = WireFixture::new().await;
    let filter = SubscriptionFilter::on_stream_name().regex("(");
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(filter));
    let refused = subscription.next().await;
    let Err(Error::Grpc { code, .. }) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!(format!("{code:?}"), "InvalidArgument");
}

#[tokio::test]
async fn checkpoints_come_after_each_window_also_where_nothing_matches() {
    let fixture = WireFixture::new().await;
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(prefix("z-").max(4)));
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["1", "2", "3", "4", "5"])).await.unwrap();
    fixture.append("a-1", ExpectedRevision::Any, events(&["6", "7", "8"])).await.unwrap();
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    let checkpoints = [3, 7].map(|index| ReceivedMessage::Checkpoint(position(&all[index])));
    assert_eq!(subscription.take(2).await, checkpoints);
}

#[tokio::test]
async fn checkpoints_come_while_the_history_is_read() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["1", "2", "3", "4", "5"])).await.unwrap();
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    let checkpoint = |index: usize| ReceivedMessage::Checkpoint(position(&all[index]));
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(prefix("z-").max(2)));
    let seen = subscription.take(5).await;
    assert_eq!(
        seen,
        [ReceivedMessage::Confirmed, checkpoint(1), checkpoint(3), checkpoint(4), ReceivedMessage::CaughtUp]
    );
}

#[tokio::test]
async fn a_subscription_goes_on_after_a_position() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    let all = read_all(&fixture.client, ReadAllOptions::default()).await.unwrap();
    let after = StreamPosition::Position(position(&all[0]));
    let mut subscription = TestSubscription::all(&fixture.client, after, None);
    assert_eq!(subscription.take(3).await, [ReceivedMessage::Confirmed, seen("Two"), ReceivedMessage::CaughtUp]);
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::End, None);
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    fixture.append("a-1", ExpectedRevision::Any, events(&["Three"])).await.unwrap();
    assert_eq!(subscription.take(1).await, [seen("Three")]);
}

#[tokio::test]
async fn a_stream_can_be_followed_before_it_has_an_event() {
    let fixture = WireFixture::new().await;
    let mut subscription = TestSubscription::stream(&fixture.client, "a-1", StreamPosition::Start);
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    fixture.append("b-1", ExpectedRevision::NoStream, events(&["Other"])).await.unwrap();
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One", "Two"])).await.unwrap();
    assert_eq!(subscription.take(2).await, [seen("One"), seen("Two")]);
    let mut subscription = TestSubscription::stream(&fixture.client, "a-1", StreamPosition::Position(0));
    assert_eq!(subscription.take(3).await, [ReceivedMessage::Confirmed, seen("Two"), ReceivedMessage::CaughtUp]);
}

#[tokio::test]
async fn a_subscriber_of_a_tombstoned_stream_learns_that_it_is_deleted() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    let mut subscription = TestSubscription::stream(&fixture.client, "a-1", StreamPosition::Start);
    assert_eq!(subscription.take(3).await, [ReceivedMessage::Confirmed, seen("One"), ReceivedMessage::CaughtUp]);
    fixture.client.tombstone_stream("a-1", &eventstore::TombstoneStreamOptions::default()).await.unwrap();
    let deleted = subscription.next().await;
    assert!(matches!(deleted, Err(Error::ResourceDeleted)), "{deleted:?}");
}

#[tokio::test]
async fn a_subscriber_gets_each_event_once_while_others_write() {
    let fixture = WireFixture::new().await;
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(prefix("a-")));
    for number in 0..300 {
        let stream = format!("{}-{number}", if number % 3 == 0 { "b" } else { "a" });
        fixture.append(&stream, ExpectedRevision::NoStream, events(&[&format!("E{number}")])).await.unwrap();
    }
    let wanted: Vec<ReceivedMessage> = (0..300).filter(|n| n % 3 != 0).map(|n| seen(&format!("E{n}"))).collect();
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        if let event @ ReceivedMessage::Event(_) = subscription.next().await.unwrap() {
            got.push(event);
        }
    }
    assert_eq!(got, wanted);
}

#[tokio::test]
async fn a_subscriber_that_falls_a_page_behind_is_notified_and_catches_up() {
    let fixture = WireFixture::new().await;
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, None);
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    let names: Vec<String> = (0..300).map(|number| format!("E{number}")).collect();
    fixture.append("a-1", ExpectedRevision::NoStream, names.iter().map(|name| event(name)).collect()).await.unwrap();
    let got = subscription.take(302).await;
    let received: Vec<ReceivedMessage> =
        got.iter().filter(|seen| matches!(seen, ReceivedMessage::Event(_))).cloned().collect();
    assert_eq!(received, names.iter().map(|name| seen(name)).collect::<Vec<_>>());
    let others: Vec<&ReceivedMessage> = got.iter().filter(|seen| !matches!(seen, ReceivedMessage::Event(_))).collect();
    assert_eq!(others, [&ReceivedMessage::FellBehind, &ReceivedMessage::CaughtUp]);
    assert_eq!(got.last(), Some(&ReceivedMessage::CaughtUp));
}

#[tokio::test]
async fn a_pattern_with_too_many_repetitions_or_too_large_a_program_is_refused() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["Made"])).await.unwrap();
    let rounds = ["a{20001}".to_owned(), "(?:a{200}){200}".to_owned()];
    let sizes = [r"\w{2000}".to_owned(), "(?=a)".repeat(400)];
    for pattern in rounds.into_iter().chain(sizes) {
        let filter = SubscriptionFilter::on_stream_name().regex(&pattern);
        let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(filter));
        let refused = subscription.next().await;
        let Err(Error::Grpc { code, .. }) = refused else { panic!("{pattern:.40}: {}", unexpected(&refused)) };
        assert_eq!(format!("{code:?}"), "InvalidArgument");
    }
    let ordinary = SubscriptionFilter::on_stream_name().regex(r"^(?!\$)[\w]{1,3}-\d{1,40}$");
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, Some(ordinary));
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, seen("Made")]);
}
