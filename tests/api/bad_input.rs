//! An invalid request is refused with the right code, and nothing is written.

use serde_json::{Value, json};

use super::super::support::{HttpResponse, Server};
use super::{log_head, pointers, raw_http};

const PATH: &str = "/v1/tasks";

/// Asserts that every route that takes a body refuses each of these bodies with this status and code.
fn assert_refused(server: &Server, bodies: &[&[u8]], status: u16, code: &str) {
    for body in bodies {
        for path in [PATH, "/v1/tasks/batch", "/v1/tasks/cancel", "/v1/bell/seen", "/v1/schedules"] {
            let answer = raw_http::post(server, path, body);
            assert_eq!(answer.status, status, "{path} {}: {}", String::from_utf8_lossy(body), answer.text);
            answer.assert_problem(status, code);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_malformed_and_writes_nothing() {
    let server = Server::start();
    let before = log_head(&server).await;
    let bodies: [&[u8]; 20] = [
        b"",
        b" ",
        b"{",
        b"}",
        b"{\"kind\":",
        b"{\"kind\":\"a\"",
        b"{\"kind\":\"a\"}x",
        b"{\"kind\":\"a\"}{}",
        b"{\"kind\":\"a\",}",
        b"{'kind':'a'}",
        b"{kind:\"a\"}",
        b"{\"kind\":\"a\"}\0",
        b"\xef\xbb\xbf{\"kind\":\"a\"}",
        b"{\"kind\":\"\xff\"}",
        b"{\"kind\":\"\\ud800\"}",
        b"{\"kind\":\"a\nb\"}",
        b"{\"kind\":\"a\",\"priority\":01}",
        b"{\"kind\":\"a\",\"input\":NaN}",
        b"{\"kind\":\"a\",\"input\":+1}",
        b"// c\n{\"kind\":\"a\"}",
    ];
    assert_refused(&server, &bodies, 400, "malformed_json");
    assert_eq!(log_head(&server).await, before);
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
}

#[tokio::test]
async fn json_has_at_most_32_levels_and_no_repeated_key_on_any_of_them() {
    let server = Server::start();
    let deep = |levels: usize| format!("{{\"kind\":\"a\",\"input\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(raw_http::post(&server, PATH, deep(32).as_bytes()).status, 201);
    for levels in [33, 127, 128, 100_000] {
        let answer = raw_http::post(&server, PATH, deep(levels).as_bytes());
        answer.assert_problem(422, "invalid_request");
    }
    let open = format!("{{\"kind\":\"a\",\"input\":{}", "[".repeat(500_000));
    assert!(matches!(raw_http::post(&server, PATH, open.as_bytes()).status, 400 | 422));
    for (body, pointer) in [
        (r#"{"kind":"a","kind":"a"}"#, "/kind"),
        (r#"{"kind":"a","input":{"x":1,"x":1}}"#, "/input/x"),
        (r#"{"kind":"a","input":[0,{"y":{"a/b":1,"a/b":2}}]}"#, "/input/1/y/a~1b"),
        (r#"{"kind":"a","input":{"x":1,"\u0078":1}}"#, "/input/x"),
        (r#"{"kind":"a","labels":{"x":"1","x":"2"}}"#, "/labels/x"),
    ] {
        let answer = raw_http::post(&server, PATH, body.as_bytes());
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [pointer], "{body}");
    }
    assert_eq!(log_head(&server).await["position"], 1);
}

#[tokio::test]
async fn the_problem_points_to_each_invalid_field() {
    let server = Server::start();
    let long = "x".repeat(513);
    let mut cases: Vec<(Value, &str)> = vec![];
    for (field, values) in [
        (
            "kind",
            vec![json!(""), json!("A"), json!("a b"), json!("ä"), json!("x".repeat(65)), json!("a/b"), json!(null)],
        ),
        ("title", vec![json!(""), json!(long), json!("a\u{0}b"), json!("a\nb"), json!("a\u{1b}[31m"), json!("\u{85}")]),
        ("queue", vec![json!(""), json!("Q"), json!("x".repeat(65))]),
        ("owner", vec![json!(""), json!("a,b"), json!("a\nb"), json!("x".repeat(129)), json!("\u{0}")]),
        ("priority", vec![json!(2_147_483_648_i64), json!(-2_147_483_649_i64), json!(1.5), json!(1e30)]),
        ("max_attempts", vec![json!(0), json!(101), json!(-1), json!(4_294_967_296_i64), json!(1.0)]),
        ("timeout_s", vec![json!(0), json!(2_592_001), json!(-1), json!(0.5), json!(u64::MAX)]),
        ("run_at", vec![json!("soon"), json!(""), json!(0), json!("2026-01-01"), json!("2026-02-30T00:00:00Z")]),
        ("parent", vec![json!("x"), json!(uuid::Uuid::nil()), json!("0197AAAA-0000-7000-8000-000000000000")]),
        (
            "labels",
            vec![
                json!([["a", "b"]]),
                json!("a:b"),
                json!((0..33).map(|n| (n.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>()),
            ],
        ),
        ("labels/a", vec![json!(1), json!(null), json!(""), json!("x".repeat(129)), json!("a\nb")]),
        ("labels/a:b", vec![json!("v")]),
        ("labels/", vec![json!("v")]),
        ("unknown", vec![json!(null), json!(1)]),
        ("id", vec![json!("x")]),
    ] {
        for value in values {
            let (outer, inner) = field.split_once('/').map_or((field, None), |(outer, inner)| (outer, Some(inner)));
            let value = inner.map_or(value.clone(), |inner| json!({inner: value}));
            let mut body = json!({"kind": "a"});
            body[outer] = value;
            cases.push((body, field));
        }
        if !field.contains('/') {
            cases.extend([json!({"a": {}}), json!([1]), json!(true)].map(|value| (body_with(field, &value), field)));
        }
    }
    for (body, field) in cases {
        let answer = server.post(PATH, &body).await;
        let at = format!("/{field}");
        let found = pointers(answer.assert_problem(422, "invalid_request"));
        assert!(found.iter().any(|pointer| pointer.starts_with(&at)), "{body}: {}", answer.text);
        assert!(!answer.body["errors"][0]["detail"].as_str().unwrap().is_empty());
    }
    assert_eq!(log_head(&server).await["position"], 0);
}

fn body_with(field: &str, value: &Value) -> Value {
    let mut body = json!({"kind": "a"});
    body[field] = value.clone();
    body
}

#[tokio::test]
async fn a_list_of_values_without_field_names_is_refused() {
    let server = Server::start();
    let mut values = vec![Value::Null; 13];
    values[0] = json!("a");
    for (path, body) in [
        (PATH, Value::Array(values.clone())),
        (PATH, json!("a")),
        (PATH, json!(5)),
        (PATH, Value::Null),
        ("/v1/tasks/batch", json!([[{"kind": "a"}]])),
        ("/v1/tasks/cancel", json!([{"kind": "a"}, null, false])),
        ("/v1/bell/seen", json!([0])),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")), [""], "{path} {body}");
    }
    let item = server.post("/v1/tasks/batch", &json!({"items": [values]})).await;
    assert_eq!(item.body["items"][0]["problem"]["code"], "invalid_request", "{}", item.text);
    assert_eq!(log_head(&server).await["position"], 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_and_one_that_just_fits_is_accepted() {
    let server = Server::start();
    let of = |bytes: usize| json!({"kind": "a", "input": "x".repeat(bytes - 2)});
    for (body, status) in [(of(65_536), 201), (of(65_537), 413)] {
        let answer = server.post(PATH, &body).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
    let answer = server.post(PATH, &of(65_537)).await;
    assert_eq!(pointers(answer.assert_problem(413, "too_large")), ["/input"]);
    let title = json!({"kind": "a", "title": "é".repeat(256)});
    assert_eq!(server.post(PATH, &title).await.status, 201);
    let owner = json!({"kind": "a", "owner": "é".repeat(128)});
    assert_eq!(server.post(PATH, &owner).await.status, 201);

    let two = vec![b' '; 2_000_000];
    for path in [PATH, "/v1/tasks/cancel", "/v1/bell/seen"] {
        raw_http::post(&server, path, &two).assert_problem(413, "too_large");
        chunked(&server, path, &two).assert_problem(413, "too_large");
        server.send(server.client().post(server.url() + path).body(two.clone())).await.assert_problem(413, "too_large");
    }
    let announced = "Content-Type: application/json\r\nContent-Length: 99999999999\r\nExpect: 100-continue\r\n";
    let answer = raw_http::raw(&server, &format!("POST {PATH}"), announced, &two);
    assert!(matches!(answer.status, 100 | 413), "{}", answer.text);
    let exact = format!("{{\"kind\":\"a\"}}{}", " ".repeat(1024 * 1024 - 12));
    assert_eq!(raw_http::post(&server, PATH, exact.as_bytes()).status, 201);
    assert_eq!(chunked(&server, PATH, exact.as_bytes()).status, 201);
    raw_http::post(&server, PATH, format!("{exact} ").as_bytes()).assert_problem(413, "too_large");
    assert_eq!(log_head(&server).await["position"], 5);
}

fn chunked(server: &Server, path: &str, body: &[u8]) -> HttpResponse {
    let mut bytes = Vec::new();
    for chunk in body.chunks(50_000) {
        bytes.extend(format!("{:x}\r\n", chunk.len()).bytes().chain(chunk.iter().copied()).chain(*b"\r\n"));
    }
    bytes.extend(b"0\r\n\r\n");
    let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    raw_http::raw(server, &format!("POST {path}"), headers, &bytes)
}

#[tokio::test]
async fn only_json_is_accepted() {
    let server = Server::start();
    let body = br#"{"kind":"a"}"#;
    let post = |kind: &str| {
        let headers = format!("{kind}Content-Length: {}\r\n", body.len());
        raw_http::raw(&server, "POST /v1/tasks", &headers, body)
    };
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json", "", "ü", "*/*"] {
        post(&format!("Content-Type: {kind}\r\n")).assert_problem(415, "unsupported_media_type");
    }
    post("").assert_problem(415, "unsupported_media_type");
    assert_eq!(log_head(&server).await["position"], 0);
    for kind in ["application/json; charset=utf-8", "Application/JSON", "application/json;"] {
        assert_eq!(post(&format!("Content-Type: {kind}\r\n")).status, 201, "{kind}");
    }
}

#[tokio::test]
async fn a_number_outside_of_the_range_of_a_field_is_refused() {
    let server = Server::start();
    for body in [r#"{"kind":"a","timeout_s":1e999}"#, r#"{"kind":"a","priority":-1e999}"#] {
        let answer = raw_http::post(&server, PATH, body.as_bytes());
        assert_eq!(pointers(answer.assert_problem(422, "invalid_request")).len(), 1, "{}", answer.text);
    }
    assert_eq!(log_head(&server).await["position"], 0);
}

#[tokio::test]
async fn a_body_of_very_many_very_small_values_is_refused_before_it_takes_much_memory() {
    let server = Server::start();
    let body = format!("{{\"items\":[{}0]}}", "0,".repeat(1_500_000));
    for path in ["/v1/tasks/batch", "/v1/leases/finish"] {
        let request = server.client().post(server.url() + path).header("content-type", "application/json");
        let answer = server.send(request.body(body.clone())).await;
        answer.assert_problem(422, "invalid_request");
        assert!(answer.text.contains("more than 1000000 values"), "{}", answer.text);
    }
}
