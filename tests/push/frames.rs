//! Frames and messages that break the websocket protocol or the limit of a message. The limit is 16 KiB.

use serde_json::json;

use super::wire::{BINARY, CLOSE, CONTINUE, LAST, PING, TEXT, close_code, frame, header, open, write};
use crate::support::Server;

const MESSAGE_MAX: usize = 16 * 1024;

/// A `resync` message of this length.
fn resync_of(length: usize) -> Vec<u8> {
    let mut message = br#"{"type":"resync"}"#.to_vec();
    message.resize(length, b' ');
    message
}

#[tokio::test]
async fn a_header_over_the_limit_closes_the_socket_with_1009_before_the_body_comes() {
    let server = Server::start();
    for (first, length) in [
        (TEXT | LAST, 16_385),
        (BINARY | LAST, 16_385),
        (TEXT, 16_385),
        (TEXT | LAST, 65_536),
        (BINARY | LAST, 1 << 40),
    ] {
        let mut live = open(&server).await;
        let header = header(first, length);
        // The length is known before the mask.
        write(&mut live, &header[..header.len() - 4]).await;
        assert_eq!(close_code(&mut live).await, Some(1009), "{first:#x}, {length} bytes");
    }
}

#[tokio::test]
async fn a_fragment_whose_header_exceeds_the_limit_of_the_message_closes_the_socket_with_1009() {
    let server = Server::start();
    let mut live = open(&server).await;
    write(&mut live, &frame(TEXT, &[b' '; 10_000])).await;
    write(&mut live, &frame(CONTINUE, &[b' '; 6_384])).await;
    write(&mut live, &header(CONTINUE | LAST, 1)).await;
    assert_eq!(close_code(&mut live).await, Some(1009));
}

#[tokio::test]
async fn a_message_of_exactly_16_kib_is_accepted_whole_and_in_fragments() {
    let server = Server::start();
    let mut live = open(&server).await;
    let message = resync_of(MESSAGE_MAX);
    write(&mut live, &frame(TEXT | LAST, &message)).await;
    live.next_of_type("snapshot").await;
    let (start, end) = message.split_at(1000);
    write(&mut live, &[frame(TEXT, start), frame(CONTINUE, b""), frame(CONTINUE | LAST, end)].concat()).await;
    live.next_of_type("snapshot").await;
}

#[tokio::test]
async fn frames_that_arrive_byte_by_byte_or_many_at_once_are_read_alike() {
    let server = Server::start();
    let mut live = open(&server).await;
    let messages = [frame(TEXT | LAST, &resync_of(17)), frame(TEXT | LAST, &resync_of(200))].concat();
    for byte in &messages {
        write(&mut live, &[*byte]).await;
    }
    for _ in 0..2 {
        live.next_of_type("snapshot").await;
    }
    let pings: Vec<u8> = (0..100).flat_map(|_| frame(PING | LAST, b"?")).collect();
    write(&mut live, &[pings, frame(TEXT | LAST, &resync_of(17))].concat()).await;
    live.next_of_type("snapshot").await;
}

#[tokio::test]
async fn a_protocol_error_closes_the_socket_with_1002() {
    let server = Server::start();
    let cases = [
        ("a reserved bit", vec![0xC1, 0x80]),
        ("a reserved opcode", vec![LAST | 0x03, 0x80]),
        ("a reserved control opcode", vec![LAST | 0x0b, 0x80]),
        ("a frame without a mask", vec![LAST | TEXT, 0x01]),
        ("a fragmented ping", vec![PING, 0x80]),
        ("a ping of 126 bytes", vec![LAST | PING, 0xfe]),
        ("a close frame of 65,536 bytes", vec![LAST | CLOSE, 0xff]),
        ("a fragment without a beginning", vec![LAST | CONTINUE, 0x80]),
        ("a message within a message", [frame(TEXT, b"{"), vec![LAST | TEXT, 0x80]].concat()),
        ("a length of more than 63 bits", [vec![LAST | TEXT, 0xff], vec![0xff; 8]].concat()),
        ("a close frame of one byte", frame(LAST | CLOSE, b"x")),
        ("a close code that must not be sent", frame(LAST | CLOSE, &1005_u16.to_be_bytes())),
    ];
    for (what, bytes) in cases {
        let mut live = open(&server).await;
        write(&mut live, &bytes).await;
        assert_eq!(close_code(&mut live).await, Some(1002), "{what}");
    }
}

#[tokio::test]
async fn text_that_is_not_utf_8_closes_the_socket_with_1007_whole_or_in_fragments() {
    let server = Server::start();
    let invalid: [&[u8]; 4] = [b"\xff", b"{\"type\":\"\xc0\xaf\"}", b"\xed\xa0\x80", b"{\xf0\x9f\x98"];
    for text in invalid {
        let (start, end) = text.split_at(text.len() / 2);
        let fragments = [frame(TEXT, start), frame(CONTINUE | LAST, end)].concat();
        for bytes in [frame(TEXT | LAST, text), fragments] {
            let mut live = open(&server).await;
            write(&mut live, &bytes).await;
            assert_eq!(close_code(&mut live).await, Some(1007), "{text:?}");
        }
    }
}

#[tokio::test]
async fn a_character_may_be_split_between_two_fragments() {
    let server = Server::start();
    let mut live = open(&server).await;
    let message = json!({"type": "subscribe", "filter": {"q": "Zürich"}}).to_string().into_bytes();
    let middle = message.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    let (start, end) = message.split_at(middle);
    write(&mut live, &[frame(TEXT, start), frame(CONTINUE | LAST, end)].concat()).await;
    live.next_of_type("subscribed").await;
}

#[tokio::test]
async fn the_close_frame_of_a_client_is_answered_with_the_same_code() {
    let server = Server::start();
    for code in [1000_u16, 1001, 4000] {
        let mut live = open(&server).await;
        write(&mut live, &frame(LAST | CLOSE, &code.to_be_bytes())).await;
        assert_eq!(close_code(&mut live).await, Some(code));
    }
}
