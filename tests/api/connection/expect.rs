//! `Expect: 100-continue`: the server asks for the body only if it will read it.

use super::super::super::support::Server;
use super::client::Client;

const EXPECT: &str = "Expect: 100-continue\r\n";
const JSON: &str = "Content-Type: application/json\r\n";

#[tokio::test]
async fn a_body_that_will_be_refused_is_not_asked_for() {
    let server = Server::start();
    for (line, headers, status, code) in [
        ("POST /v1/tasks", format!("{JSON}Content-Length: 99999999\r\n"), 413, "too_large"),
        ("POST /v1/tasks", format!("{JSON}Content-Length: 1048577\r\n"), 413, "too_large"),
        ("POST /v1/tasks/batch", format!("{JSON}Content-Length: 16777217\r\n"), 413, "too_large"),
        ("POST /v1/leases/finish", format!("{JSON}Content-Length: 16777217\r\n"), 413, "too_large"),
        ("POST /v1/tasks", "Content-Type: text/plain\r\nContent-Length: 12\r\n".into(), 415, "unsupported_media_type"),
        ("POST /v1/tasks", "Content-Type: \r\nContent-Length: 12\r\n".into(), 415, "unsupported_media_type"),
        ("POST /v1/tasks", "Content-Length: 12\r\n".into(), 415, "unsupported_media_type"),
        ("POST /v1/tasks", "Transfer-Encoding: chunked\r\n".into(), 415, "unsupported_media_type"),
        (
            "POST /v1/tasks",
            format!("{JSON}Content-Encoding: gzip\r\nContent-Length: 12\r\n"),
            415,
            "unsupported_media_type",
        ),
        ("POST /v1/tasks?x=1", format!("{JSON}Content-Length: 12\r\n"), 422, "invalid_request"),
        ("POST /v1/tasks", format!("{JSON}Content-Length: 12\r\nOrigin: null\r\n"), 403, "forbidden_origin"),
        ("PUT /v1/tasks", format!("{JSON}Content-Length: 12\r\n"), 405, "method_not_allowed"),
        ("POST /v1/nothing", format!("{JSON}Content-Length: 12\r\n"), 404, "not_found"),
    ] {
        let mut client = Client::connect(&server);
        client.send_head(line, &format!("{headers}{EXPECT}"));
        let response = client.response().expect("a response");
        assert_eq!(response.status, status, "{line} {headers}: {response:?}");
        response.assert_problem(status, code);
        assert_eq!(response.header("connection"), "close", "{line} {headers}: {response:?}");
    }
}

#[tokio::test]
async fn a_body_that_will_be_read_is_asked_for_once() {
    let server = Server::start();
    let mut client = Client::connect(&server);
    for headers in [
        format!("{JSON}Content-Length: 12\r\n{EXPECT}"),
        format!("{JSON}Content-Length: 12\r\nExpect: 100-Continue\r\n"),
        format!("{JSON}Content-Length: 12\r\n{EXPECT}{EXPECT}"),
    ] {
        client.send_head("POST /v1/tasks", &headers);
        assert_eq!(client.response().expect("an interim response").status, 100, "{headers}");
        client.send(br#"{"kind":"a"}"#);
        assert_eq!(client.response().expect("a response").status, 201, "{headers}");
    }
    client.send_head("GET /healthz", EXPECT);
    assert_eq!(client.response().expect("a response").status, 200, "a request without a body");
}

#[tokio::test]
async fn another_expectation_can_not_be_met() {
    let server = Server::start();
    for value in ["200-ok", "100-continue, other", "100-continuex"] {
        let mut client = Client::connect(&server);
        client.send_head("POST /v1/tasks", &format!("{JSON}Content-Length: 12\r\nExpect: {value}\r\n"));
        client.response().expect("a response").assert_problem(417, "expectation_failed");
        client.assert_closed();
    }
}
