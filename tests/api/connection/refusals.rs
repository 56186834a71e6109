//! Requests that are refused before a route is found: each refusal is a problem with a request id.

use super::super::super::support::Server;
use super::client::Client;

/// Sends this and asserts the refusal, after which the server closes the connection.
#[track_caller]
fn assert_refused(server: &Server, request: &[u8], status: u16, code: &str) {
    let mut client = Client::connect(server);
    client.send(request);
    let shown = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
    let response = client.response().unwrap_or_else(|| panic!("no response to {shown:?}"));
    assert_eq!((response.status, response.body["code"].as_str()), (status, Some(code)), "{shown:?}: {response:?}");
    response.assert_problem(status, code);
    assert_eq!(response.body["request_id"], response.header("x-request-id"), "{shown:?}");
    assert_eq!(response.header("connection"), "close", "{shown:?}");
    client.assert_closed();
}

fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn options_of_the_whole_server_is_a_problem() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    client.send_head("OPTIONS *", "");
    let response = client.response().expect("a response");
    response.assert_problem(404, "not_found");
    assert_eq!(response.body["request_id"], response.header("x-request-id"));
}

#[tokio::test]
async fn a_uri_that_is_too_long_and_headers_that_are_too_large_or_too_many_are_refused() {
    let server = Server::start();
    let long = |length: usize| format!("/v1/tasks?q={}", "x".repeat(length));
    assert_refused(&server, &get(&long(8_192), ""), 414, "uri_too_long");
    assert_refused(&server, &get(&long(70_000), ""), 414, "uri_too_long");
    assert_refused(&server, &get(&long(300_000), ""), 414, "uri_too_long");
    let large = format!("X-Large: {}\r\n", "x".repeat(16_384));
    assert_refused(&server, &get("/healthz", &large), 431, "headers_too_large");
    assert_refused(&server, &get("/healthz", &large.repeat(20)), 431, "headers_too_large");
    assert_refused(&server, &get("/healthz", &"X: y\r\n".repeat(64)), 431, "headers_too_large");
    assert_refused(&server, &get("/healthz", &"X: y\r\n".repeat(500)), 431, "headers_too_large");
    let mut client = Client::connect(&server);
    client.send_head("GET /healthz", &"X: y\r\n".repeat(63));
    assert_eq!(client.response().unwrap().status, 200);
    client.send_head("GET /healthz", &format!("X: {}\r\n", "x".repeat(15_000)));
    assert_eq!(client.response().unwrap().status, 200);
}

#[tokio::test]
async fn a_request_that_is_no_http_is_refused() {
    let server = Server::start();
    for request in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"G\xffT /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tasks/\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/tasks?q=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://other.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n",
        b"POST /v1/tasks HTTP/1.0\r\n\r\n",
    ] {
        assert_refused(&server, request, 400, "bad_request");
    }
    for request in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET /healthz HTTP/3.0\r\nHost: localhost\r\n\r\n"] {
        assert_refused(&server, request, 505, "http_version_not_supported");
    }
    assert_refused(
        &server,
        b"CONNECT other.example:80 HTTP/1.1\r\nHost: other.example\r\n\r\n",
        501,
        "not_implemented",
    );
}

#[tokio::test]
async fn a_body_whose_end_is_ambiguous_is_refused() {
    let server = Server::start();
    let post = |headers: &str, body: &str| {
        let head = "POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        format!("{head}{headers}\r\n{body}").into_bytes()
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    for headers in [
        "Content-Length: 12\r\nContent-Length: 12\r\n",
        "Content-Length: 12, 12\r\n",
        "Content-Length: +12\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x0c\r\n",
        "Content-Length: \r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 12\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Content-Length: 12\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
    ] {
        assert_refused(&server, &post(headers, r#"{"kind":"a"}"#), 400, "bad_request");
    }
    for headers in ["Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding: chunked, gzip\r\n"] {
        assert_refused(&server, &post(headers, "0\r\n\r\n"), 501, "not_implemented");
    }
    for body in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "1\na\n0\n\n",
    ] {
        assert_refused(&server, &post(chunked, body), 400, "bad_request");
    }
    let head = server.get("/v1/log/head").await;
    assert_eq!(head.body["position"], 0);
    let mut client = Client::connect(&server);
    client.send(&post(chunked, "6;name=value\r\n{\"kind\r\n6\r\n\":\"a\"}\r\n0\r\nX-Trailer: 1\r\n\r\n"));
    assert_eq!(client.response().unwrap().status, 201);
}

#[tokio::test]
async fn a_body_with_a_content_encoding_is_refused_whatever_it_is() {
    let server = Server::start();
    for encoding in ["gzip", "br", "deflate", "zstd", "x", "gzip, identity", ""] {
        let mut client = Client::connect(&server);
        let headers =
            format!("Content-Type: application/json\r\nContent-Encoding: {encoding}\r\nContent-Length: 12\r\n");
        client.send_head("POST /v1/tasks", &headers);
        client.send(br#"{"kind":"a"}"#);
        let response = client.response().unwrap();
        assert_eq!(response.status, 415, "{encoding}: {}", response.text);
        response.assert_problem(415, "unsupported_media_type");
        assert!(response.text.contains("Content-Encoding"), "{}", response.text);
    }
    let mut client = Client::connect(&server);
    let headers = "Content-Type: application/json\r\nContent-Encoding: identity\r\nContent-Length: 12\r\n";
    client.send_head("POST /v1/tasks", headers);
    client.send(br#"{"kind":"a"}"#);
    assert_eq!(client.response().unwrap().status, 201);
}

#[tokio::test]
async fn head_never_says_a_length_that_get_does_not_have() {
    let server = Server::start();
    server.submit(&serde_json::json!({"kind": "a"})).await;
    for path in ["/v1/log", "/v1/log?follow=true", "/v1/log?limit=1"] {
        let mut client = Client::connect(&server);
        client.send_head(&format!("HEAD {path}"), "");
        let response = client.response_to_head().unwrap();
        assert_eq!((response.status, response.header("content-length")), (200, ""), "{path}: {response:?}");
        client.send_head("GET /healthz", "");
        assert_eq!(client.response().unwrap().status, 200, "the connection goes on after HEAD {path}");
    }
}
