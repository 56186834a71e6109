#!/usr/bin/env bash
# The Rust client `eventstore` 4.0.0 leaves Nagle's algorithm on (TCP_NODELAY is 0) and writes a request in several small
# segments. Each waits for the acknowledgement of the one before. Linux delays acknowledgements by 40 ms on a connection with
# little traffic, so that an append takes 40 ms although the server answers at once.
#
# Seen on Linux, medians of 30 appends one after the other, over loopback, to a server that answers every append at once:
#   eventstore 4.0.0, acknowledgements delayed by the system:    45 ms
#   eventstore 4.0.0, acknowledgements sent at once (QUICKACK):   2 ms
# The script fails if that changes. It needs Linux, cargo and the network for crates.io; it uses nothing of Taskbell.
# Taskbell's own server of this protocol acknowledges at once; docs/cluster.md says what to set on a database host.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'TOML'
[package]
name = "eventstore-nagle"
version = "0.0.0"
edition = "2024"

[dependencies]
bytes = "=1.12.2"
eventstore = "=4.0.0"
h2 = "=0.4.20"
http = "=1.5.0"
rustix = { version = "=1.1.6", features = ["net"] }
tokio = { version = "=1.54.1", features = ["full"] }
TOML
cat > "$folder/src/main.rs" <<'RUST'
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventstore::{AppendToStreamOptions, Client, EventData};
use http::{HeaderMap, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

/// A message AppendResp: success, revision 0, position 1/1.
const WRITTEN: &[u8] = &[0, 0, 0, 0, 10, 0x0a, 8, 0x08, 0, 0x1a, 4, 0x08, 1, 0x10, 1];

/// A connection of the server; with `quick` it acknowledges at once what it has read.
struct Connection {
    stream: TcpStream,
    quick: bool,
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.quick {
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.quick {
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Answers every append, and says of other methods that they are not implemented.
async fn serve(stream: TcpStream, quick: bool) {
    stream.set_nodelay(true).unwrap();
    let mut connection = h2::server::handshake(Connection { stream, quick }).await.unwrap();
    while let Some(Ok((request, mut answer))) = connection.accept().await {
        tokio::spawn(async move {
            let is_append = request.uri().path().ends_with("Streams/Append");
            let mut body = request.into_body();
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
            let head = Response::builder().header("content-type", "application/grpc");
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", if is_append { "0" } else { "12" }.parse().unwrap());
            let mut sending = answer.send_response(head.body(()).unwrap(), false).unwrap();
            if is_append {
                sending.send_data(Bytes::from_static(WRITTEN), false).unwrap();
            }
            sending.send_trailers(trailers).unwrap();
        });
    }
}

async fn median(quick: bool) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, quick));
        }
    });
    let client = Client::new(format!("esdb://{addr}?tls=false").parse().unwrap()).unwrap();
    let mut times = Vec::new();
    for number in 0..35 {
        let event = EventData::json("Happened", &"data").unwrap();
        let begun = Instant::now();
        let written = client.append_to_stream("stream", &AppendToStreamOptions::default(), event).await.unwrap();
        assert_eq!(written.next_expected_version, 0);
        // A new connection acknowledges its first segments at once.
        if number >= 5 {
            times.push(begun.elapsed());
        }
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::main]
async fn main() {
    let (delayed, quick) = (median(false).await, median(true).await);
    println!("eventstore 4.0.0, median of 30 appends:");
    println!("  acknowledgements delayed by the system: {} ms", delayed.as_millis());
    println!("  acknowledgements sent at once:          {} ms", quick.as_millis());
    let holds = delayed > Duration::from_millis(30) && quick < Duration::from_millis(15);
    println!("{}", if holds { "as described" } else { "CHANGED: no longer as described in this script" });
    std::process::exit(i32::from(!holds));
}
RUST
cargo run --quiet --manifest-path "$folder/Cargo.toml" --target-dir "$folder/target"
