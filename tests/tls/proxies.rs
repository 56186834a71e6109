//! A server behind proxies, and clients that pretend to be proxies.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{Server, TEST_TIMEOUT};

/// The server trusts this peer.
const PROXY: &str = "127.0.0.1";
/// The server doesn't trust this one, which is on the same machine.
const STRANGER: &str = "127.0.0.2";

/// Connects from this loopback address.
fn connect_from(peer: &str, server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&format!("{peer}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&server.address().parse::<SocketAddr>().unwrap().into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream
}

/// Sends a request from this address and returns the status.
fn status(peer: &str, server: &Server, line: &str, headers: &str) -> u16 {
    let mut stream = connect_from(peer, server);
    write!(stream, "{line} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.split(' ').nth(1).expect("a status").parse().expect("a number")
}

/// Opens a websocket from this address and returns the status and the connection.
fn open_socket(peer: &str, server: &Server, headers: &str) -> (u16, TcpStream) {
    let mut stream = connect_from(peer, server);
    let handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    write!(stream, "GET /v1/live HTTP/1.1\r\nHost: localhost\r\n{handshake}{headers}\r\n").unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    (String::from_utf8_lossy(&head)[9..].parse().expect("a status"), stream)
}

#[test]
fn the_limit_of_an_address_counts_the_address_that_a_trusted_proxy_names() {
    let server = Server::with(["--trust-proxy", PROXY, "--max-sockets-per-address", "1"]);
    let forwarded = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    let (first, _anna) = open_socket(PROXY, &server, &forwarded("203.0.113.1"));
    let (second, _bea) = open_socket(PROXY, &server, &forwarded("203.0.113.2"));
    assert_eq!((first, second), (101, 101), "two clients behind one proxy");
    for spoofed in ["203.0.113.1", "198.51.100.7, 203.0.113.1", "::ffff:203.0.113.1"] {
        assert_eq!(open_socket(PROXY, &server, &forwarded(spoofed)).0, 429, "{spoofed}");
    }
    let (third, _cleo) = open_socket(PROXY, &server, &forwarded("2001:db8:0:1::1"));
    assert_eq!((third, open_socket(PROXY, &server, &forwarded("2001:db8:0:1:ffff::9")).0), (101, 429), "one network");
    let (own, _dora) = open_socket(STRANGER, &server, &forwarded("203.0.113.3"));
    assert_eq!(own, 101);
    for spoofed in ["203.0.113.4", "203.0.113.5", PROXY] {
        assert_eq!(open_socket(STRANGER, &server, &forwarded(spoofed)).0, 429, "its own address counts: {spoofed}");
    }
}

#[test]
fn a_trusted_proxy_says_which_host_and_scheme_the_page_has_and_nobody_else() {
    let server = Server::with(["--trust-proxy", PROXY, "--allow-host", "tasks.example"]);
    let says = |host: &str, forwarded: &str, origin: &str| format!("Host: {host}\r\n{forwarded}Origin: {origin}\r\n");
    let by_proxy = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: tasks.example\r\n";
    let evil = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n";
    let (page, get) = ("https://tasks.example", "GET /v1/tasks");
    for (peer, headers, expected) in [
        (PROXY, says("127.0.0.1:7070", by_proxy, page), 200),
        (PROXY, says("tasks.example", "X-Forwarded-Proto: https\r\n", page), 200),
        (PROXY, says("tasks.example", "", page), 403),
        (PROXY, says("tasks.example", "", "http://tasks.example"), 200),
        (PROXY, says("tasks.example", by_proxy, "http://tasks.example"), 403),
        (PROXY, says("tasks.example", evil, "https://evil.example"), 403),
        (PROXY, says("evil.example", by_proxy, page), 200),
        (STRANGER, says("localhost", by_proxy, page), 403),
        (STRANGER, says("tasks.example", by_proxy, page), 403),
        (STRANGER, says("tasks.example", by_proxy, "http://tasks.example"), 200),
        (STRANGER, says("evil.example", by_proxy, page), 403),
        (STRANGER, says("localhost", evil, "https://evil.example"), 403),
    ] {
        assert_eq!(status(peer, &server, get, &headers), expected, "{peer}: {headers}");
    }
}

#[test]
fn without_the_setting_no_peer_is_a_proxy() {
    let server = Server::with(["--max-sockets-per-address", "1", "--allow-host", "tasks.example"]);
    let (first, _anna) = open_socket(PROXY, &server, "X-Forwarded-For: 203.0.113.1\r\n");
    assert_eq!((first, open_socket(PROXY, &server, "X-Forwarded-For: 203.0.113.2\r\n").0), (101, 429));
    let headers = "Host: localhost\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: tasks.example\r\n\
                   Origin: https://tasks.example\r\n";
    assert_eq!(status(PROXY, &server, "GET /v1/tasks", headers), 403);
}

#[tokio::test]
async fn the_names_of_the_server_are_its_hosts_beside_the_loopback_names() {
    let server = Server::with(["--allow-host", "tasks.example,10.0.0.5", "--allow-host", "fd00::5"]);
    for (host, expected) in [
        ("tasks.example", 200),
        ("Tasks.Example:8443", 200),
        ("10.0.0.5:1", 200),
        ("[fd00::5]", 200),
        ("localhost", 200),
        ("127.0.0.1", 200),
        ("tasks.example.", 403),
        ("tasks.example@evil.example", 403),
        ("evil.example", 403),
        ("10.0.0.6", 403),
        ("2130706433", 403),
    ] {
        assert_eq!(status(PROXY, &server, "GET /v1/tasks", &format!("Host: {host}\r\n")), expected, "{host}");
    }
    let refused = server.send(server.client().get(server.url() + "/v1/tasks").header("host", "evil.example")).await;
    refused.assert_problem(403, "forbidden_origin");
    assert!(refused.body["detail"].as_str().unwrap().contains("allow_hosts"), "{}", refused.text);
    assert_eq!(server.post("/v1/tasks", &json!({"kind": "a"})).await.status, 201);
}
