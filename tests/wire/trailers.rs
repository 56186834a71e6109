//! The status and the trailers of refused requests. These tests read the raw response, because most clients show only
//! their own errors.

use std::convert::Infallible;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame};
use hyper::{HeaderMap, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use taskbell::store::EventStore;
use taskbell::wire;
use tokio::net::TcpStream;

use super::*;

/// A field of a message: text, bytes or another message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut length = content.len();
    let mut bytes = vec![number << 3 | 2];
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).unwrap());
    [&bytes, content].concat()
}

/// A message with the prefix with which gRPC sends it.
fn framed(message: &[u8]) -> Vec<u8> {
    [&[0], &u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// The options of a write to `a-1` at any revision.
fn options() -> Vec<u8> {
    let stream = field(1, &field(3, b"a-1"));
    field(1, &[stream, field(4, b"")].concat())
}

/// The status, message and trailers of a call. If the response has no message, they are headers.
async fn call(addr: SocketAddr, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> HeaderMap {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = Request::post(format!("http://{addr}/event_store.client.streams.Streams/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = in_time(sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap())).await.unwrap();
    let headers = answer.headers().clone();
    let body = in_time(answer.into_body().collect()).await.unwrap();
    connection.abort();
    body.trailers().cloned().unwrap_or(headers)
}

#[track_caller]
fn assert_trailers(found: &HeaderMap, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(found.get(*name).map(|value| value.to_str().unwrap()), Some(*value), "{name} in {found:?}");
    }
}

#[tokio::test]
async fn a_write_to_the_log_is_refused_with_access_denied() {
    let server = wire::serve(EventStore::memory(), ANY_PORT, wire::ServeOptions::default()).await.unwrap();
    for method in ["Append", "Delete", "Tombstone"] {
        let found = call(server.addr(), method, &[], framed(&options())).await;
        assert_trailers(&found, &[("grpc-status", "7"), ("exception", "access-denied")]);
    }
}

#[tokio::test]
async fn a_write_to_a_tombstoned_stream_names_the_stream() {
    let fixture = WireFixture::new().await;
    let found = call(fixture.server.addr(), "Tombstone", &[], framed(&options())).await;
    assert_trailers(&found, &[("grpc-status", "0")]);
    let found = call(fixture.server.addr(), "Append", &[], framed(&options())).await;
    assert_trailers(&found, &[("grpc-status", "9"), ("exception", "stream-deleted"), ("stream-name", "a-1")]);
}

#[tokio::test]
async fn a_delete_at_a_wrong_revision_names_both_revisions() {
    let fixture = WireFixture::new().await;
    let stream = field(1, &field(3, b"a-1"));
    let exists = field(1, &[stream, field(5, b"")].concat());
    let found = call(fixture.server.addr(), "Delete", &[], framed(&exists)).await;
    let revisions = [("expected-version", "-4"), ("actual-version", "-1"), ("stream-name", "a-1")];
    assert_trailers(&found, &[("grpc-status", "9"), ("exception", "wrong-expected-version")]);
    assert_trailers(&found, &revisions);
}

#[tokio::test]
async fn a_follower_names_its_leader() {
    let fixture = WireFixture::new().await;
    fixture.server.follow("127.0.0.1:2113".parse().unwrap());
    let found = call(fixture.server.addr(), "Append", &[("requires-leader", "true")], framed(&options())).await;
    let leader = [("leader-endpoint-host", "127.0.0.1"), ("leader-endpoint-port", "2113")];
    assert_trailers(&found, &[("grpc-status", "5"), ("exception", "not-leader")]);
    assert_trailers(&found, &leader);
    let found = call(fixture.server.addr(), "Append", &[], framed(&options())).await;
    assert_trailers(&found, &[("grpc-status", "0")]);
}

#[tokio::test]
async fn a_large_append_names_the_limit() {
    let fixture = WireFixture::new().await;
    let metadata = [("type", "One"), ("content-type", "application/octet-stream")]
        .map(|(key, value)| field(2, &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat()));
    let id = field(1, &field(2, Uuid::new_v4().to_string().as_bytes()));
    let event = field(2, &[id, metadata.concat(), field(4, &vec![7; 1024 * 1024])].concat());
    let body = [framed(&options()), framed(&event)].concat();
    let found = call(fixture.server.addr(), "Append", &[], body).await;
    assert_trailers(&found, &[("grpc-status", "3"), ("exception", "maximum-append-size-exceeded")]);
    assert_trailers(&found, &[("maximum-append-size", "1048576")]);
}

#[tokio::test]
async fn an_event_without_a_type_names_what_is_required() {
    let fixture = WireFixture::new().await;
    let id = field(1, &field(2, Uuid::new_v4().to_string().as_bytes()));
    let body = [framed(&options()), framed(&field(2, &id))].concat();
    let found = call(fixture.server.addr(), "Append", &[], body).await;
    assert_trailers(&found, &[("grpc-status", "3"), ("exception", "missing-required-metadata-property")]);
    assert_trailers(&found, &[("required-metadata-properties", "type,content-type")]);
}

#[tokio::test]
async fn a_test_can_end_subscriptions_with_ok() {
    let fixture = WireFixture::new().await;
    // All of `$all`, as a subscription without a filter.
    let options = [field(2, &field(2, b"")), field(6, b""), field(8, b"")].concat();
    let subscription = call(fixture.server.addr(), "Read", &[], framed(&field(1, &options)));
    tokio::pin!(subscription);
    // The subscription has started when it waits in the frozen database. It continues when the database thaws.
    fixture.database.freeze();
    let end = async {
        fixture.database.wait_for_delayed_requests(1).await;
        fixture.database.thaw();
        loop {
            fixture.database.end_subscriptions();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        found = &mut subscription => assert_trailers(&found, &[("grpc-status", "0")]),
        () = end => unreachable!(),
    }
}

#[tokio::test]
async fn a_method_that_is_not_served_is_unimplemented() {
    let fixture = WireFixture::new().await;
    let found = call(fixture.server.addr(), "Unknown", &[], framed(b"")).await;
    assert_trailers(&found, &[("grpc-status", "12")]);
}

#[tokio::test]
async fn a_batch_for_the_log_is_refused_before_its_events_are_received() {
    let server = wire::serve(EventStore::memory(), ANY_PORT, wire::ServeOptions::default()).await.unwrap();
    let stream = TcpStream::connect(server.addr()).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let _connection = tokio::spawn(connection);
    // A body that never ends.
    let body = http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let request = Request::post(format!("http://{}/event_store.client.streams.Streams/BatchAppend", server.addr()))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answer = in_time(sender.send_request(request.body(body).unwrap())).await.unwrap();
    assert_trailers(answer.headers(), &[("grpc-status", "7"), ("exception", "access-denied")]);
}
