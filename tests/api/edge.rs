//! Rules for every request: the check of host and origin, the request id, and the problem responses to requests that
//! the HTTP library itself refuses.

use serde_json::json;

use super::super::support::Server;
use super::{log_head, raw_http};

#[tokio::test]
async fn the_process_is_alive_and_ready() {
    let server = Server::start();
    assert_eq!(server.get("/healthz").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, &ready.body["ready"], &ready.body["reasons"]), (200, &json!(true), &json!([])));
}

#[tokio::test]
async fn head_is_answered_wherever_get_is_with_the_same_headers_and_no_body() {
    let server = Server::start();
    let id = server.submit(&json!({"kind": "a"})).await;
    for path in [
        "/v1/tasks".to_owned(),
        format!("/v1/tasks/{id}"),
        format!("/v1/tasks/{id}/events"),
        "/v1/counters".into(),
        "/v1/queues".into(),
        "/v1/schedules".into(),
        "/v1/log".into(),
        "/v1/log/head".into(),
        "/healthz".into(),
        "/readyz".into(),
        "/".into(),
        format!("/tasks/{id}"),
    ] {
        let get = raw_http::raw(&server, &format!("GET {path}"), "", b"");
        let answer = raw_http::raw(&server, &format!("HEAD {path}"), "", b"");
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{path}");
        for name in ["content-type", "content-length", "taskbell-position"] {
            assert!(path == "/v1/log" || answer.header(name) == get.header(name), "{path}: {name}");
        }
    }
    let missing = raw_http::raw(&server, "HEAD /v1/tasks/x", "", b"");
    assert_eq!((missing.status, missing.text.as_str()), (404, ""));
}

#[tokio::test]
async fn an_unknown_path_is_a_problem_also_where_the_http_library_refuses_it() {
    let server = Server::start();
    for path in [
        "/nothing",
        "/v1",
        "/v1/",
        "/v1/nothing",
        "/v2/tasks",
        "/v1/tasks/",
        "/v1/tasks//",
        "//v1/tasks",
        "/V1/tasks",
        "/v1/tasks/x",
        "/v1/tasks/%ff",
        "/v1/%ff",
        "/%ff%fe",
        "/%",
        "/v1/tasks/%00",
        "/v1/tasks/%2e%2e/log",
        "/v1/tasks/../log/x",
        "/v1/tasks/x/events",
        "/v1/tasks/%zz/events",
        "/healthz/",
        "/readyz/x",
        "/ui/nothing.js",
        "/ui/%ff",
        "/ui/..%2f..%2fCargo.toml",
        "/v1/tasks/0197AAAA-0000-7000-8000-000000000000",
        "/v1/tasks/{0197aaaa-0000-7000-8000-000000000000}",
        "/v1/tasks/0197aaaa000070008000000000000000",
        "/v1/tasks/urn:uuid:0197aaaa-0000-7000-8000-000000000000",
        "/v1/tasks/0197aaaa-0000-7000-8000-00000000000",
    ] {
        raw_http::raw(&server, &format!("GET {path}"), "", b"").assert_problem(404, "not_found");
    }
    for id in ["x", "%ff", "0197AAAA-0000-7000-8000-000000000000", "{0197aaaa-0000-7000-8000-000000000000}"] {
        for verb in ["cancel", "retry"] {
            raw_http::post(&server, &format!("/v1/tasks/{id}/{verb}"), b"{}").assert_problem(404, "not_found");
        }
    }
}

#[tokio::test]
async fn a_method_that_is_not_offered_is_answered_with_the_list_of_those_that_are() {
    let server = Server::start();
    let id = uuid::Uuid::nil();
    for (path, allow) in [
        ("/v1/tasks".to_owned(), "GET, HEAD, POST"),
        ("/v1/tasks/batch".into(), "POST"),
        ("/v1/tasks/cancel".into(), "POST"),
        (format!("/v1/tasks/{id}"), "GET, HEAD"),
        (format!("/v1/tasks/{id}/events"), "GET, HEAD"),
        (format!("/v1/tasks/{id}/cancel"), "POST"),
        (format!("/v1/tasks/{id}/escalate"), "POST"),
        (format!("/v1/tasks/{id}/retry"), "POST"),
        ("/v1/counters".into(), "GET, HEAD"),
        ("/v1/bell/seen".into(), "POST"),
        ("/v1/live".into(), "GET, HEAD"),
        ("/v1/log".into(), "GET, HEAD"),
        ("/v1/log/head".into(), "GET, HEAD"),
        ("/healthz".into(), "GET, HEAD"),
        ("/readyz".into(), "GET, HEAD"),
        ("/metrics".into(), "GET, HEAD"),
        ("/".into(), "GET, HEAD"),
        ("/tasks/x".into(), "GET, HEAD"),
        ("/ui/app.js".into(), "GET, HEAD"),
    ] {
        for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let answer = raw_http::raw(&server, &format!("{method} {path}"), "", b"");
            answer.assert_problem(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allow, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn pages_of_other_sites_can_neither_read_nor_write() {
    let server = Server::start();
    let own = server.url();
    let port = own.rsplit(':').next().unwrap();
    let body = br#"{"kind":"a"}"#;
    let with = |more: &str| format!("{more}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    for more in [
        "Host: evil.example\r\n".to_owned(),
        format!("Host: evil.example:{port}\r\n"),
        format!("Host: 127.0.0.1.evil.example:{port}\r\n"),
        format!("Host: localhost.evil.example:{port}\r\n"),
        "Host: 192.168.0.1\r\n".into(),
        "Host: 0.0.0.0\r\n".into(),
        "Host:\r\n".into(),
        "Origin: http://evil.example\r\n".into(),
        "Origin: null\r\n".into(),
        "Origin: ü\r\n".into(),
        "Origin: http://127.0.0.1:1\r\n".into(),
        format!("Origin: https://127.0.0.1:{port}\r\n"),
        format!("Host: localhost:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"),
    ] {
        for line in ["POST /v1/tasks", "GET /v1/tasks", "GET /v1/live", "GET /v1/nothing", "GET /readyz", "PUT /v1/log"]
        {
            let answer = raw_http::raw(&server, line, &with(&more), body);
            assert_eq!(answer.body["code"], "forbidden_origin", "{line} {more}: {}", answer.text);
            answer.assert_problem(403, "forbidden_origin");
        }
    }
    assert_eq!(log_head(&server).await["position"], 0);
    for more in [
        format!("Origin: {own}\r\n"),
        format!("Host: localhost:{port}\r\nOrigin: http://localhost:{port}\r\n"),
        "Host: LOCALHOST\r\n".into(),
        "Host: [::1]:80\r\n".into(),
        "Host: 127.8.9.10\r\n".into(),
    ] {
        assert_eq!(raw_http::raw(&server, "POST /v1/tasks", &with(&more), body).status, 201, "{more}");
    }
}

#[tokio::test]
async fn a_request_s_id_is_the_client_s_or_the_server_s_and_is_recorded() {
    let server = Server::start();
    let body = br#"{"kind":"a"}"#;
    let with = |more: &str| format!("{more}Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let answer = raw_http::raw(&server, "POST /v1/tasks", &with("X-Request-Id: my-id/7\r\n"), body);
    assert_eq!((answer.status, answer.header("x-request-id")), (201, "my-id/7"));
    assert_eq!(
        server.get(&format!("/v1/tasks/{}/events", answer.id())).await.body["items"][0]["meta"]["request_id"],
        "my-id/7"
    );
    let refused = raw_http::raw(&server, "GET /v1/nothing", "X-Request-Id: my-id/8\r\n", b"");
    assert_eq!((&refused.body["request_id"], refused.header("x-request-id")), (&json!("my-id/8"), "my-id/8"));
    for bad in ["a b".to_owned(), "ü".into(), "x".repeat(129), String::new()] {
        let answer = raw_http::raw(&server, "GET /v1/nothing", &format!("X-Request-Id: {bad}\r\n"), b"");
        let made = answer.header("x-request-id");
        assert!(uuid::Uuid::try_parse(made).is_ok() && answer.body["request_id"] == *made, "{bad}: {made}");
    }
}
