//! Connections that send what no correct client sends, and the bodies and frames for them.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::support::{RawStream, Server};

/// How long a write may block. A server that reads nothing more is left alone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
const HOST: &str = "Host: localhost\r\n";
/// The addresses of the healthy client and of the others. The server counts wrong tokens by address.
const HEALTHY_ADDRESS: &str = "127.0.0.9";
const HOSTILE_ADDRESS: &str = "127.0.0.1";

/// A connection to the server.
pub struct Connection {
    stream: RawStream,
    /// The header line that every request gets.
    authorization: String,
}

impl Connection {
    /// Connects as a hostile client, whose token is right.
    pub fn open(server: &Server) -> io::Result<Self> {
        let authorization =
            server.tokens().map_or_else(String::new, |tokens| format!("Authorization: Bearer {}\r\n", tokens.hostile));
        Self::open_from(server, HOSTILE_ADDRESS, authorization)
    }

    /// Connects as a hostile client with these lines instead of a token.
    pub fn open_with(server: &Server, authorization: String) -> io::Result<Self> {
        Self::open_from(server, HOSTILE_ADDRESS, authorization)
    }

    /// Connects as the healthy client.
    pub fn healthy(server: &Server) -> io::Result<Self> {
        Self::open_from(server, HEALTHY_ADDRESS, server.authorization())
    }

    fn open_from(server: &Server, address: &str, authorization: String) -> io::Result<Self> {
        let stream = server.connect_raw(address)?;
        stream.tcp().set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Self { stream, authorization })
    }

    /// Connects and opens a websocket.
    pub fn open_websocket(server: &Server) -> io::Result<Self> {
        let mut client = Self::open(server)?;
        let handshake = format!(
            "GET /v1/live HTTP/1.1\r\n{HOST}Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.send_request(&handshake)?;
        let head = client.read_head(Duration::from_secs(10))?;
        if head.starts_with("HTTP/1.1 101") { Ok(client) } else { Err(ErrorKind::ConnectionRefused.into()) }
    }

    /// Sends all of these bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Sends a request, or the beginning of one, with the authorization behind its `Host`.
    pub fn send_request(&mut self, request: &str) -> io::Result<()> {
        let end_of_host = request.find(HOST).map_or(0, |at| at + HOST.len());
        if end_of_host > 0 && !self.authorization.is_empty() {
            let begin = format!("{}{}", &request[..end_of_host], self.authorization);
            self.send(begin.as_bytes())?;
            return self.send(&request.as_bytes()[end_of_host..]);
        }
        self.send(request.as_bytes())
    }

    /// Whether the server has sent something or has closed the connection. It is of no use for more requests afterwards.
    pub fn has_answer(&mut self) -> bool {
        let _ = self.stream.tcp().set_nonblocking(true);
        let read = self.stream.read(&mut [0]);
        let _ = self.stream.tcp().set_nonblocking(false);
        !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// The status and the body of a GET request.
    pub fn get(&mut self, path: &str, within: Duration) -> io::Result<(u16, String)> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"), within)
    }

    /// The status and the body of a POST request with this JSON.
    pub fn post(&mut self, path: &str, body: &str, within: Duration) -> io::Result<(u16, String)> {
        self.exchange(&post_request(path, body), within)
    }

    /// Sends a request that closes the connection, and reads to its end.
    pub fn exchange(&mut self, request: &str, within: Duration) -> io::Result<(u16, String)> {
        // The server may answer and close before it has read all.
        let sent = self.send_request(request);
        self.stream.tcp().set_read_timeout(Some(within))?;
        let mut answer = Vec::new();
        let read = self.stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
        let Some(status) = status else {
            sent.and(read)?;
            return Err(ErrorKind::UnexpectedEof.into());
        };
        Ok((status, text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())))
    }

    fn read_head(&mut self, within: Duration) -> io::Result<String> {
        self.stream.tcp().set_read_timeout(Some(within))?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&head).into_owned())
    }
}

/// The bytes of a POST request with this JSON.
pub fn post_request(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\n{HOST}Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// A batch of 14 MiB.
pub fn full_batch() -> String {
    json!({"items": vec![json!({"kind": "a", "owner": "many", "input": "x".repeat(14_000)}); 1000]}).to_string()
}

/// Bodies that are deep, that repeat keys, or that hold as many values as fit, and the paths for them.
pub fn hostile_json() -> Vec<(&'static str, String)> {
    let input = |input: &str| format!("{{\"kind\":\"a\",\"owner\":\"many\",\"input\":{input}}}");
    let batch = |item: &str, count: usize| format!("{{\"items\":[{}]}}", vec![item; count].join(","));
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let numbers = format!("[{}]", vec!["1e5"; 200_000].join(","));
    let many_numbers = format!("[{}]", vec!["0"; 7_000_000].join(","));
    let repeated = format!("{{{}}}", vec!["\"k\":1"; 150_000].join(","));
    let keys = format!("{{{}}}", (0..90_000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","));
    let raw = format!("{{\"$serde_json::private::RawValue\":{}}}", Value::from(vec!["[0]"; 100_000].join(",")));
    let long_number = "9".repeat(900_000);
    let escapes = format!("\"{}\"", "\\u0000".repeat(150_000));
    vec![
        ("/v1/tasks", input(&deep)),
        ("/v1/tasks", input(&numbers)),
        ("/v1/tasks", input(&repeated)),
        ("/v1/tasks", input(&keys)),
        ("/v1/tasks", input(&raw)),
        ("/v1/tasks", input(&long_number)),
        ("/v1/tasks", input(&escapes)),
        ("/v1/tasks/batch", input(&many_numbers)),
        ("/v1/tasks/batch", batch(&input(&keys), 14)),
        ("/v1/tasks/batch", batch("[]", 5_000_000)),
        ("/v1/leases/finish", batch("{}", 5_000_000)),
        ("/v1/leases/heartbeat", format!("{{\"worker\":\"w\",\"leases\":[{}]}}", vec!["{}"; 5_000_000].join(","))),
        ("/v1/schedules", format!("{{\"cron\":\"1-1000000000/1 * * * *\",\"task\":{}}}", input("null"))),
    ]
}

/// Requests with filters that are as large as fits.
pub fn huge_filters() -> Vec<String> {
    let get = |query: String| format!("GET /v1/tasks?{query} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n");
    let bulk =
        |filter: Value| post_request("/v1/tasks/cancel", &json!({"filter": filter, "dry_run": true}).to_string());
    vec![
        get(format!("kind={}", "a,".repeat(3_500))),
        get("label=a:b&".repeat(700)),
        get(format!("q={}", "w+".repeat(3_500))),
        get(format!("q={}", "%F0%9F%92%A9".repeat(600))),
        get(format!("limit=18446744073709551615&kind={}", "a".repeat(7_000))),
        get(format!("cursor={}", "0".repeat(7_000))),
        get("limit=200".into()),
        bulk(json!({"kind": vec!["a"; 200_000]})),
        bulk(json!({"label": vec!["a:b"; 150_000]})),
        bulk(json!({"q": "w ".repeat(500_000)})),
        bulk(json!({"owner": "a,".repeat(500_000)})),
        bulk((0..80_000).map(|n| (format!("f{n}"), json!("x"))).collect()),
    ]
}

/// Streams of frames that a client sends again and again on one socket.
pub fn websocket_floods() -> Vec<Vec<u8>> {
    let ids: Vec<String> = (0..200).map(|n| format!("01890000-0000-7000-8000-{n:012}")).collect();
    let subscribe = json!({"type": "subscribe", "filter": {"ids": ids}}).to_string();
    let huge_header = [0x81, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    vec![
        text_frame(subscribe.as_bytes()),
        text_frame(br#"{"type":"resync"}"#).repeat(1000),
        frame(0x89, &[0; 125]).repeat(1000),
        frame(0x01, &[]).into_iter().chain(frame(0x00, &[]).repeat(1000)).collect(),
        frame(0x01, b"a").into_iter().chain(frame(0x00, &[b'a'; 16_000]).repeat(20)).collect(),
        text_frame(&vec![b'['; 16_000]),
        [&huge_header[..], &[b'a'; 65_536]].concat(),
        text_frame(br#"{"type":"seen","position":1}"#).repeat(1000),
    ]
}

/// A masked text frame.
pub fn text_frame(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload)
}

/// A masked frame with this first byte. The mask is zero, so that the payload stays as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length @ 0..=125) => frame.push(0x80 | u8::try_from(length).unwrap_or_default()),
        Ok(length) => {
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0xff);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend_from_slice(payload);
    frame
}
