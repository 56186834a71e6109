//! A client that sends bytes as they are and reads every response of a connection.

use std::io::{ErrorKind, Read, Write as _};
use std::net::TcpStream;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::super::super::support::{HttpResponse, Server, TEST_TIMEOUT};

/// A connection to the server.
pub(super) struct Client {
    socket: TcpStream,
    /// What was received and is not a part of a returned response.
    received: Vec<u8>,
    host: String,
}

impl Client {
    pub(super) fn connect(server: &Server) -> Self {
        let host = server.url().replace("http://", "");
        let socket = TcpStream::connect(&host).expect("a connection");
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        socket.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
        Self { socket, received: Vec::new(), host }
    }

    /// Sends these bytes. The server may have closed the connection already.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Sends a head: the request line without its version, a `Host`, and these header lines.
    pub(super) fn send_head(&mut self, line: &str, headers: &str) {
        let head = format!("{line} HTTP/1.1\r\nHost: {}\r\n{headers}\r\n", self.host);
        self.send(head.as_bytes());
    }

    /// The next response to a request other than HEAD; none if the server has closed the connection before it.
    pub(super) fn response(&mut self) -> Option<HttpResponse> {
        self.response_with_body(true)
    }

    /// The next response to a request with HEAD.
    pub(super) fn response_to_head(&mut self) -> Option<HttpResponse> {
        self.response_with_body(false)
    }

    fn response_with_body(&mut self, has_body: bool) -> Option<HttpResponse> {
        let end = loop {
            if let Some(at) = find(&self.received, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.receive() {
                assert!(self.received.is_empty(), "half a head: {:?}", String::from_utf8_lossy(&self.received));
                return None;
            }
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let mut response = parse_head(&String::from_utf8_lossy(&head));
        let body = if has_body && response.status >= 200 { self.body(&response) } else { Vec::new() };
        response.text = String::from_utf8_lossy(&body).into_owned();
        response.body = serde_json::from_str(&response.text).unwrap_or(Value::Null);
        Some(response)
    }

    fn body(&mut self, response: &HttpResponse) -> Vec<u8> {
        if response.header("transfer-encoding") == "chunked" {
            return self.chunks();
        }
        match response.header("content-length").parse() {
            Ok(length) => self.take(length),
            Err(_) => Vec::new(),
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.received, b"\r\n") {
                    break at;
                }
                assert!(self.receive(), "the body broke off");
            };
            let line = String::from_utf8(self.take(end + 2)).unwrap();
            let length = usize::from_str_radix(line.trim(), 16).unwrap();
            body.extend(self.take(length));
            assert_eq!(self.take(2), b"\r\n");
            if length == 0 {
                return body;
            }
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            assert!(self.receive(), "the body broke off");
        }
        self.received.drain(..length).collect()
    }

    /// Receives more bytes; false if the server has closed the connection.
    fn receive(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        match self.socket.read(&mut part) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend(&part[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }

    /// Reads to the end of the connection, and asserts that nothing follows.
    #[track_caller]
    pub(super) fn assert_closed(mut self) {
        while self.receive() {}
        assert!(self.received.is_empty(), "more than expected: {:?}", String::from_utf8_lossy(&self.received));
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// A response without its body.
pub(super) fn parse_head(head: &str) -> HttpResponse {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    assert!(first.starts_with("HTTP/1."), "no status line: {first:?}");
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status line: {first:?}"));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    HttpResponse { status, headers, text: String::new(), body: Value::Null }
}
