//! Sends requests as raw bytes, because an HTTP client would not send invalid ones.

use std::io::{Read as _, Write as _};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use taskbell::task::json::value_of;

use super::super::support::{HttpResponse, Server, TEST_TIMEOUT};

/// Sends a request with the line `METHOD target`, these header lines, `Host`, `Connection: close` and this body.
/// Returns the response.
pub fn raw(server: &Server, line: &str, headers: &str, body: &[u8]) -> HttpResponse {
    let address = server.address();
    let host =
        if headers.to_ascii_lowercase().contains("host:") { String::new() } else { format!("Host: {address}\r\n") };
    let head = format!("{line} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
    let mut socket = server.connect_raw("127.0.0.1").expect("a connection");
    socket.tcp().set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.tcp().set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    socket.write_all(head.as_bytes()).expect("the server takes a head");
    // The write fails if the server refuses the request and closes before it has read the whole body.
    let _ = socket.write_all(body);
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    parse(&bytes).unwrap_or_else(|| panic!("no answer to {line}: {:?}", String::from_utf8_lossy(&bytes)))
}

/// Sends a POST request with this body as JSON. The body need not be valid.
pub fn post(server: &Server, path: &str, body: &[u8]) -> HttpResponse {
    let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    raw(server, &format!("POST {path}"), &headers, body)
}

fn parse(bytes: &[u8]) -> Option<HttpResponse> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
    }
    let text = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
    let body = value_of(&text).unwrap_or(Value::Null);
    Some(HttpResponse { status, headers, text, body })
}
