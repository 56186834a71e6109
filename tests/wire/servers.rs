//! Nodes of the stand-in database: cut off, frozen, slow, or not the leader.

use eventstore::Error;

use super::*;

#[tokio::test]
async fn a_stopped_server_cuts_its_subscribers_with_an_error() {
    let fixture = WireFixture::new().await;
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::Start, None);
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    fixture.server.stop().await;
    let cut = subscription.next().await;
    assert!(matches!(cut, Err(Error::ServerError(_))), "{cut:?}");
}

#[tokio::test]
async fn a_database_outlives_its_server_and_is_served_again_on_the_same_port() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    let addr = fixture.server.addr();
    let mut subscription = TestSubscription::all(&fixture.client, StreamPosition::End, None);
    assert_eq!(subscription.take(2).await, [ReceivedMessage::Confirmed, ReceivedMessage::CaughtUp]);
    fixture.server.stop().await;
    let server = fixture.database.serve(addr).await.unwrap();
    assert_eq!(server.addr(), addr);
    let client = connect(addr);
    assert_eq!(kinds(&read(&client, "a-1", ReadStreamOptions::default()).await.unwrap()), ["One"]);
}

#[tokio::test]
async fn a_request_to_a_frozen_database_goes_on_when_it_thaws() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    fixture.database.freeze();
    let hanging = fixture.append("a-1", ExpectedRevision::Exact(0), events(&["Two"]));
    tokio::pin!(hanging);
    tokio::select! {
        answer = &mut hanging => panic!("{}", unexpected(&answer)),
        () = in_time(fixture.database.wait_for_delayed_requests(1)) => {}
    }
    assert_eq!(fixture.database.stream("a-1").len(), 1);
    fixture.database.thaw();
    assert_eq!(in_time(hanging).await.unwrap().revision, 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_found_by_its_repetition() {
    let fixture = WireFixture::new().await;
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::NoStream);
    let append = |client: Client| {
        let options = options.clone();
        async move { client.append_to_stream("a-1", &options, event_with_id("One", Uuid::from_u128(7))).await }
    };
    fixture.database.hold_responses(true);
    let lost = tokio::spawn(append(fixture.client.clone()));
    in_time(fixture.database.wait_for_delayed_requests(1)).await;
    let addr = fixture.server.addr();
    fixture.server.stop().await;
    let lost = in_time(lost).await.unwrap();
    assert!(matches!(lost, Err(Error::ServerError(_))), "{lost:?}");
    fixture.database.hold_responses(false);
    let _server = fixture.database.serve(addr).await.unwrap();
    assert_eq!(append(connect(addr)).await.unwrap().next_expected_version, 0);
    assert_eq!(fixture.database.all().len(), 1);
}

#[tokio::test]
async fn each_answer_is_late_by_the_latency() {
    let fixture = WireFixture::new().await;
    fixture.append("a-1", ExpectedRevision::NoStream, events(&["One"])).await.unwrap();
    let latency = Duration::from_millis(150);
    fixture.database.set_latency(latency);
    let begin = std::time::Instant::now();
    fixture.append("a-1", ExpectedRevision::Exact(0), events(&["Two"])).await.unwrap();
    assert!(begin.elapsed() >= latency);
}

#[tokio::test]
async fn a_follower_names_the_leader_to_clients_that_require_it() {
    let fixture = WireFixture::new().await;
    let follower = fixture.database.serve(ANY_PORT).await.unwrap();
    follower.follow(fixture.server.addr());
    let client = connect(follower.addr());
    let options = AppendToStreamOptions::default().expected_revision(ExpectedRevision::NoStream).requires_leader(true);
    let refused = client.append_to_stream("a-1", &options, events(&["One"])).await;
    let Err(Error::NotLeaderException(leader)) = refused else { panic!("{}", unexpected(&refused)) };
    assert_eq!((leader.host.as_str(), leader.port), ("127.0.0.1", u32::from(fixture.server.addr().port())));
    assert!(fixture.database.all().is_empty());
    // The client has moved to the leader by itself.
    client.append_to_stream("a-1", &options, events(&["One"])).await.unwrap();
    follower.lead();
    let client = connect(follower.addr());
    client.append_to_stream("a-2", &options, events(&["Two"])).await.unwrap();
}

#[tokio::test]
async fn clients_find_the_leader_by_gossip() {
    let fixture = WireFixture::new().await;
    let follower = fixture.database.serve(ANY_PORT).await.unwrap();
    follower.follow(fixture.server.addr());
    let text = format!("esdb://{},{}?tls=false&discoveryInterval=10", follower.addr(), fixture.server.addr());
    let client = Client::new(text.parse().unwrap()).unwrap();
    let options = AppendToStreamOptions::default().requires_leader(true);
    in_time(client.append_to_stream("a-1", &options, events(&["One"]))).await.unwrap();
}

#[tokio::test]
async fn a_client_knows_the_version_of_the_protocol() {
    let fixture = WireFixture::new().await;
    let info = fixture.client.server_info().await.unwrap();
    assert_eq!((info.version().major(), info.version().minor()), (24, 10));
}
