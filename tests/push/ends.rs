//! What a socket gets when the server ends.

use serde_json::json;

use super::stalled;
use super::wire::{TEXT, close_code, frame, open, write};
use crate::support::{Server, signal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_closes_every_socket_with_1001() {
    let mut server = Server::start();
    let mut idle = open(&server).await;
    let mut subscribed = open(&server).await;
    subscribed.send(&json!({"type": "subscribe", "filter": {}})).await;
    subscribed.next_of_type("subscribed").await;
    let mut within_a_message = open(&server).await;
    write(&mut within_a_message, &frame(TEXT, b"{")).await;
    signal(server.pid(), "TERM");
    for live in [&mut idle, &mut subscribed, &mut within_a_message] {
        assert_eq!(close_code(live).await, Some(1001));
    }
    assert!(server.stop().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_whose_client_does_not_read_does_not_hold_up_the_end_of_the_server() {
    let mut server = Server::start();
    let _stalled = stalled::stalled_socket(&server).await;
    let mut idle = open(&server).await;
    signal(server.pid(), "TERM");
    assert_eq!(close_code(&mut idle).await, Some(1001));
    let begun = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed().as_secs() < 15, "the server waited for the stalled client");
}
