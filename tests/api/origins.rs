//! Requests that a browser sends for pages of other origins: which are refused, and what allowed pages can read.

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::super::support::{HttpResponse, Server};
use super::{log_head, raw_http};

const APP: &str = "https://app.example:8443";
const BODY: &[u8] = br#"{"kind":"a"}"#;

fn allowing(origin: &str) -> Server {
    Server::with(["--allow-origin", origin])
}

fn post(server: &Server, more: &str) -> HttpResponse {
    let headers = format!("{more}Content-Type: application/json\r\nContent-Length: {}\r\n", BODY.len());
    raw_http::raw(server, "POST /v1/tasks", &headers, BODY)
}

/// The status of the response to a websocket's handshake with these headers; 101 if it is opened.
async fn handshake(server: &Server, headers: &[(&'static str, &str)]) -> u16 {
    let url = format!("{}/v1/live", server.url().replacen("http", "ws", 1));
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    match tokio_tungstenite::connect_async(request).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(Error::Http(refused)) => refused.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_browser_that_names_another_site_is_refused_also_without_an_origin() {
    let server = Server::start();
    let own = server.url();
    for more in [
        "Sec-Fetch-Site: cross-site\r\n".to_owned(),
        "Sec-Fetch-Site: same-site\r\n".into(),
        "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: empty\r\n".into(),
        format!("Sec-Fetch-Site: cross-site\r\nOrigin: {own}\r\n"),
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site\r\n".into(),
        "Sec-Fetch-Site: same-origin, cross-site\r\n".into(),
        "Sec-Fetch-Site: nonsense\r\n".into(),
        "Sec-Fetch-Site:\r\n".into(),
        "Sec-Fetch-Site: same-origin\r\nOrigin: https://evil.example\r\n".into(),
    ] {
        let answer = post(&server, &more);
        assert_eq!(answer.status, 403, "{more}: {}", answer.text);
        answer.assert_problem(403, "forbidden_origin");
    }
    assert_eq!(log_head(&server).await["position"], 0, "nothing was recorded");
    for more in ["", "Sec-Fetch-Site: same-origin\r\n", "Sec-Fetch-Site: none\r\n"] {
        assert_eq!(post(&server, more).status, 201, "{more}");
    }
    for (site, status) in [("cross-site", 403), ("same-site", 403), ("same-origin", 101)] {
        assert_eq!(handshake(&server, &[("sec-fetch-site", site)]).await, status, "{site}");
    }
}

#[tokio::test]
async fn a_read_for_a_page_of_another_site_is_refused_before_it_costs_anything() {
    let server = allowing(APP);
    let own = format!("Origin: {}\r\n", server.url());
    for (more, why) in [
        ("", "the browser says no more"),
        ("Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: image\r\n", "an image"),
        ("Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n", "a script"),
        ("Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: empty\r\n", "a blind fetch"),
        ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", "a frame"),
        ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: embed\r\n", "a plugin"),
        ("Sec-Fetch-Mode: navigate\r\n", "a navigation of no destination"),
        ("Sec-Fetch-Dest: document\r\n", "a destination without a mode"),
        ("Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: document\r\n", "a fetch that calls itself a document"),
        ("Sec-Fetch-Mode: navigate\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", "two modes"),
        (&own, "the server's own origin, which is no other site"),
        ("Origin: https://evil.example\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", "another origin"),
    ] {
        for site in ["cross-site", "same-site"] {
            let more = format!("Sec-Fetch-Site: {site}\r\n{more}");
            for line in READS {
                let refused = raw_http::raw(&server, line, &more, b"");
                assert_eq!(refused.status, 403, "{line}, {site}: {why}: {}", refused.text);
                if !line.starts_with("HEAD") {
                    refused.assert_problem(403, "forbidden_origin");
                }
            }
        }
    }
    for bad in ["Sec-Fetch-Site: nonsense\r\n", "Sec-Fetch-Site:\r\n", "Sec-Fetch-Site: Same-Origin\r\n"] {
        raw_http::raw(&server, "GET /v1/tasks", bad, b"").assert_problem(403, "forbidden_origin");
    }
}

/// Reads, also those that would wait.
const READS: [&str; 6] = [
    "GET /v1/tasks",
    "HEAD /v1/tasks",
    "GET /v1/log?follow=true",
    "GET /v1/counters?min_position=9999",
    "GET /metrics",
    "GET /v1/nothing",
];

#[tokio::test]
async fn a_link_of_another_site_an_allowed_page_and_the_user_of_a_browser_may_read() {
    let server = allowing(APP);
    let own = format!("Sec-Fetch-Site: same-origin\r\nOrigin: {}\r\n", server.url());
    let allowed = format!("Sec-Fetch-Site: cross-site\r\nOrigin: {APP}\r\nSec-Fetch-Mode: cors\r\n");
    let link = "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    for more in [
        link,
        &link.replace("cross-site", "same-site"),
        "Sec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n",
        &own,
        &allowed,
        "",
    ] {
        for line in ["GET /v1/tasks", "HEAD /v1/tasks", "GET /metrics", "GET /healthz", "GET /readyz"] {
            assert_eq!(raw_http::raw(&server, line, more, b"").status, 200, "{line}: {more}");
        }
    }
    // The pages and files are public. A frame can't show them, and a browser gives a file to no other site.
    for line in ["GET /", "GET /tasks/0190f3c2-a4b8-7def-8123-456789abcdef", "GET /ui/bell.js"] {
        let page = raw_http::raw(&server, line, "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\n", b"");
        assert_eq!(page.status, 200, "{line}");
    }
}

/// Origins that look like [`APP`] or like the server's own, which has this port.
fn hostile_origins(port: &str) -> Vec<String> {
    let look_like_the_allowed = [
        "null",
        "Null",
        "",
        "*",
        "https://app.example",
        "https://app.example:443",
        "https://app.example:84430",
        "https://app.example:8443/",
        "https://app.example:8443/path",
        "https://app.example:8443?query",
        "https://app.example:8443#fragment",
        "https://app.example:8443 ",
        "https://app.example:8443 https://evil.example",
        "https://app.example:8443, https://evil.example",
        "https://app.example.:8443",
        "https://.app.example:8443",
        "https://evil-app.example:8443",
        "https://evilapp.example:8443",
        "https://sub.app.example:8443",
        "https://app.example:8443.evil.example",
        "https://app.example.evil.example:8443",
        "https://evil.example:8443",
        "https://evil.example?https://app.example:8443",
        "https://app.example:8443@evil.example",
        "https://user@app.example:8443",
        "https://App.example:8443",
        "HTTPS://app.example:8443",
        "http://app.example:8443",
        "ws://app.example:8443",
        "//app.example:8443",
        "app.example:8443",
        "https://\u{430}pp.example:8443",
        "https://xn--pp-6kc.example:8443",
        "https:app.example:8443",
        "https://app%2eexample:8443",
    ];
    let own = [
        format!("https://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}0"),
        format!("http://127.0.0.1:{port}/"),
        format!("http://2130706433:{port}"),
        format!("http://127.1:{port}"),
        format!("http://127.0.0.1.:{port}"),
        format!("http://[::1]:{port}"),
        "http://127.0.0.1".into(),
        "http://".into(),
    ];
    look_like_the_allowed.into_iter().map(str::to_owned).chain(own).collect()
}

/// Asserts that a page with these headers can neither read nor write nor open a socket, also with a preflight.
fn assert_refused(server: &Server, page: &str) {
    post(server, page).assert_problem(403, "forbidden_origin");
    post(server, &format!("{page}Sec-Fetch-Site: cross-site\r\n")).assert_problem(403, "forbidden_origin");
    let socket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (line, more) in [
        ("GET /v1/tasks", ""),
        ("OPTIONS /v1/tasks", "Access-Control-Request-Method: POST\r\n"),
        ("GET /v1/live", socket),
    ] {
        let refused = raw_http::raw(server, line, &format!("{page}{more}"), b"");
        refused.assert_problem(403, "forbidden_origin");
        assert_eq!(refused.header("access-control-allow-origin"), "", "{line} {page}");
    }
}

#[tokio::test]
async fn an_origin_that_only_looks_like_an_allowed_one_can_neither_read_nor_write_nor_open_a_socket() {
    let server = allowing(APP);
    let own = server.url();
    let mut lines: Vec<String> = hostile_origins(own.rsplit(':').next().unwrap());
    assert!(lines.len() >= 30);
    lines.retain(|origin| origin.trim_end() != APP);
    lines.push(format!("{APP}\r\nOrigin: {APP}"));
    lines.push(format!("{own}\r\nOrigin: https://evil.example"));
    std::thread::scope(|threads| {
        for origin in &lines {
            let page = format!("Host: {}\r\nOrigin: {origin}\r\n", own.replace("http://", ""));
            let server = &server;
            threads.spawn(move || assert_refused(server, &page));
        }
    });
    assert_eq!(log_head(&server).await["position"], 0);
    for site in ["cross-site", "same-site"] {
        assert_eq!(handshake(&server, &[("origin", APP), ("sec-fetch-site", site)]).await, 101);
    }
}

#[tokio::test]
async fn an_allowed_page_asks_first_and_can_read_every_response_also_a_refusal() {
    let server = allowing(APP);
    let preflight = |more: &str| {
        let asked = format!("Origin: {APP}\r\nAccess-Control-Request-Method: POST\r\n{more}");
        raw_http::raw(&server, "OPTIONS /v1/tasks", &asked, b"")
    };
    let asked =
        preflight("Access-Control-Request-Headers: authorization, content-type\r\nSec-Fetch-Site: cross-site\r\n");
    assert_eq!((asked.status, asked.text.as_str()), (204, ""));
    for (name, value) in [
        ("access-control-allow-origin", APP),
        ("access-control-allow-methods", "GET, HEAD, POST, DELETE"),
        ("access-control-allow-headers", "authorization, content-type, idempotency-key, if-none-match, x-request-id"),
        ("access-control-max-age", "600"),
        ("access-control-allow-credentials", ""),
        ("vary", "origin"),
    ] {
        assert_eq!(asked.header(name), value, "{name}");
    }
    let page = format!("Origin: {APP}\r\nSec-Fetch-Site: cross-site\r\n");
    let created = post(&server, &page);
    assert_eq!(created.status, 201, "{}", created.text);
    let bad = |line: &str| raw_http::raw(&server, line, &page, b"");
    let bad_token = format!("{page}Authorization: Bearer nonsense\r\n");
    for (answer, status) in [
        (created, 201),
        (bad("GET /v1/tasks"), 200),
        (bad("GET /v1/tasks/nothing"), 404),
        (bad("GET /v1/nothing"), 404),
        (bad("GET /v1/tasks?limit=x"), 422),
        (bad("PUT /v1/tasks"), 405),
        (raw_http::raw(&server, "GET /v1/tasks", &bad_token, b""), 401),
    ] {
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.header("access-control-allow-origin"), APP, "{status}");
        let readable = "location, retry-after, taskbell-position, taskbell-stale-since, x-request-id";
        assert_eq!(answer.header("access-control-expose-headers"), readable, "{status}");
        assert_eq!((answer.header("vary"), answer.header("access-control-allow-credentials")), ("origin", ""));
    }
    for line in ["GET /metrics", "GET /healthz", "GET /"] {
        assert_eq!(bad(line).header("access-control-allow-origin"), "", "{line} is not for other pages");
    }
}

#[tokio::test]
async fn the_modules_of_the_interface_can_be_loaded_by_allowed_pages_only() {
    let server = allowing(APP);
    let get = |origin: &str, more: &str| {
        raw_http::raw(
            &server,
            "GET /ui/bell.js",
            &format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n{more}"),
            b"",
        )
    };
    let file = get(APP, "");
    assert_eq!((file.status, file.header("access-control-allow-origin"), file.header("vary")), (200, APP, "origin"));
    assert_eq!(file.header("cross-origin-resource-policy"), "cross-origin");
    let unchanged = get(APP, &format!("If-None-Match: {}\r\n", file.header("etag")));
    assert_eq!((unchanged.status, unchanged.header("access-control-allow-origin")), (304, APP));
    assert_eq!(get("https://evil.example", "").header("access-control-allow-origin"), "");

    let closed = Server::start();
    let file = raw_http::raw(&closed, "GET /ui/bell.js", &format!("Origin: {APP}\r\n"), b"");
    assert_eq!((file.header("access-control-allow-origin"), file.header("vary")), ("", ""));
    assert_eq!(file.header("cross-origin-resource-policy"), "same-origin");
    let preflight = format!("Origin: {APP}\r\nAccess-Control-Request-Method: POST\r\n");
    raw_http::raw(&closed, "OPTIONS /v1/tasks", &preflight, b"").assert_problem(403, "forbidden_origin");
}

#[test]
fn an_allowed_origin_that_browsers_would_never_send_is_refused_at_the_start() {
    for (origin, why) in [
        ("*", "is no origin"),
        ("null", "is no origin"),
        ("app.example", "is no origin"),
        ("https://app.example/", "write https://app.example"),
        ("https://app.example:443", "write https://app.example"),
        ("https://App.example", "write https://app.example"),
    ] {
        let mut command = super::super::support::taskbell();
        let command = command.args(["serve", "--listen", "127.0.0.1:0", "--store", "memory"]);
        let output = command.args(["--allow-origin", origin]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{origin}: {stderr}");
        assert!(stderr.contains("allow_origins") && stderr.contains(why), "{origin}: {stderr}");
    }
}

#[tokio::test]
async fn allowed_origins_are_read_from_a_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taskbell.toml");
    std::fs::write(&file, format!("[browser]\nallow_origins = [\"{APP}\", \"http://localhost:3000\"]\n")).unwrap();
    let server = Server::with(["--config".as_ref(), file.as_os_str()]);
    for origin in [APP, "http://localhost:3000"] {
        let page = format!("Host: {}\r\nOrigin: {origin}\r\n", server.url().replace("http://", ""));
        let answer = raw_http::raw(&server, "GET /v1/tasks", &page, b"");
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
    }
    assert_eq!(server.get("/v1/tasks").await.body["items"], json!([]));
}
