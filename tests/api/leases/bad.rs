//! Invalid requests of workers are refused with the right code, write nothing, and don't affect other clients.

use super::*;
use crate::api::{log_head, pointers, pointers_in, raw_http};
use crate::support::TEST_TIMEOUT;

const ROUTES: [&str; 4] = ["/v1/leases", "/v1/leases/heartbeat", "/v1/leases/cancel-ack", "/v1/leases/finish"];

/// Starts a server with two tasks: the worker `w` holds the lease of one, and the other is queued. Returns the server
/// and the lease.
async fn server() -> (Server, String) {
    let server = Server::start();
    let (_, lease) = submit_and_take(&server, "w", json!({})).await;
    server.submit(&json!({"kind": "left.alone"})).await;
    (server, lease)
}

/// Asserts that each of these bodies is refused with its pointer, and that nothing is written.
async fn assert_each_refused(server: &Server, path: &str, cases: &[(String, &str)]) {
    let before = log_head(server).await;
    for (body, pointer) in cases {
        let answer = raw_http::post(server, path, body.as_bytes());
        let context = format!("{path} {}: {}", body.chars().take(200).collect::<String>(), answer.text);
        assert_eq!((answer.status, answer.body["code"].as_str()), (422, Some("invalid_request")), "{context}");
        answer.assert_problem(422, "invalid_request");
        assert_eq!(pointers(&answer)[0], *pointer, "{context}");
    }
    assert_eq!(log_head(server).await, before);
}

#[allow(clippy::needless_pass_by_value)] // it reads best with `json!` inside
fn case(body: Value, pointer: &str) -> (String, &str) {
    (body.to_string(), pointer)
}

#[tokio::test]
async fn every_route_takes_one_json_object_by_post_and_nothing_in_its_address() {
    let (server, _) = server().await;
    let before = log_head(&server).await;
    for path in ROUTES {
        for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH"] {
            let answer = raw_http::raw(&server, &format!("{method} {path}"), "Content-Length: 0\r\n", b"");
            assert_eq!((answer.status, answer.header("allow")), (405, "POST"), "{method} {path}: {}", answer.text);
        }
        for body in ["", " ", "{", "}", "{}x", "{'worker':'w'}", "\u{feff}{}", "{\"worker\":NaN}", "[1,]"] {
            raw_http::post(&server, path, body.as_bytes()).assert_problem(400, "malformed_json");
        }
        raw_http::post(&server, path, b"{\"worker\":\"\xff\"}").assert_problem(400, "malformed_json");
        for body in ["[]", "null", "7", "\"w\"", "{\"worker\":1e999}", "[\"w\",[\"a\"],null,1,0]", "{}", "{\"x\":1}"] {
            raw_http::post(&server, path, body.as_bytes()).assert_problem(422, "invalid_request");
        }
        let deep = format!("{{\"worker\":{}{}}}", "[".repeat(40), "]".repeat(40));
        raw_http::post(&server, path, deep.as_bytes()).assert_problem(422, "invalid_request");
        let plain =
            raw_http::raw(&server, &format!("POST {path}"), "Content-Type: text/plain\r\nContent-Length: 2\r\n", b"{}");
        plain.assert_problem(415, "unsupported_media_type");
        for query in ["?wait_s=1", "?worker=w", "?x", "?as_of=1"] {
            raw_http::post(&server, &format!("{path}{query}"), b"{}").assert_problem(422, "invalid_request");
        }
        let under = raw_http::post(&server, &format!("{path}/x"), b"{}");
        assert!(matches!(under.status, 404 | 405), "{}", under.text);
    }
    assert_eq!(log_head(&server).await, before);
}

#[tokio::test]
async fn the_problem_of_a_take_names_the_wrong_field() {
    let (server, _) = server().await;
    let mut cases = vec![
        case(json!({}), ""),
        case(json!({"worker": "v", "unknown": 1}), "/unknown"),
        (r#"{"worker":"v","worker":"v"}"#.to_owned(), "/worker"),
        (r#"{"worker":"v","max":1,"\u006dax":1}"#.to_owned(), "/max"),
        (format!(r#"{{"worker":"v","max":{}}}"#, "9".repeat(30)), "/max"),
    ];
    for worker in bad_workers() {
        cases.push(case(json!({"worker": worker}), "/worker"));
    }
    for (field, values) in [
        (
            "max",
            vec![json!(0), json!(1001), json!(1.5), json!(-1), json!("1"), json!([1]), json!(u64::MAX), json!(true)],
        ),
        ("wait_s", vec![json!(-1), json!(30.000_001), json!(31), json!("1"), json!(1e300), json!([]), json!(-1e-9)]),
    ] {
        for value in values {
            cases.push(case(
                json!({"worker": "v", "wait_s": 0, field: value}),
                if field == "max" { "/max" } else { "/wait_s" },
            ));
        }
    }
    let many: Vec<String> = (0..300).map(|n| format!("k{n}")).collect();
    for (field, all, first) in [("kinds", "/kinds", "/kinds/0"), ("queues", "/queues", "/queues/0")] {
        for value in [json!([]), json!(many), json!("a"), json!({"a": 1}), json!(7)] {
            cases.push(case(json!({"worker": "v", field: value}), all));
        }
        for name in [
            json!(""),
            json!("A"),
            json!("a b"),
            json!("taskbell.bulk-cancel"),
            json!("x".repeat(65)),
            json!(1),
            json!(null),
        ] {
            cases.push(case(json!({"worker": "v", field: [name]}), first));
        }
    }
    assert_each_refused(&server, ROUTES[0], &cases).await;
    assert_eq!(server.get("/v1/counters").await.body["counts"]["running"], 1);
}

fn bad_workers() -> Vec<Value> {
    let long = "x".repeat(129);
    let texts = ["", " ", "\u{0}", "a\nb", "a\u{1b}[31m", "\u{2028}", "local/x", "local/", &long];
    texts.into_iter().map(|text| json!(text)).chain([json!(null), json!(7), json!(["w"]), json!({})]).collect()
}

#[tokio::test]
async fn the_problem_of_a_heartbeat_names_the_wrong_field_and_the_lease_is_unchanged() {
    let (server, lease) = server().await;
    let beats = |beat: Value| json!({"worker": "w", "leases": [beat]});
    let mut cases = vec![
        case(json!({"worker": "w"}), ""),
        case(json!({"worker": "w", "leases": {}}), "/leases"),
        case(json!({"worker": "w", "leases": null}), "/leases"),
        case(json!({"worker": "w", "leases": [lease]}), "/leases/0"),
        case(json!({"worker": "w", "leases": [], "max": 1}), "/max"),
        case(json!({"worker": "w", "leases": [], "wait_s": 31}), "/wait_s"),
        case(json!({"worker": "w", "leases": vec![json!({"lease": lease}); 1001]}), "/leases"),
        (
            format!(r#"{{"worker":"w","leases":[{{"lease":"{lease}","progress":{{"fraction":0,"fraction":1}}}}]}}"#),
            "/leases/0/progress/fraction",
        ),
    ];
    for worker in bad_workers() {
        cases.push(case(json!({"worker": worker, "leases": [{"lease": lease}]}), "/worker"));
    }
    for bad in bad_leases(&lease) {
        cases.push(case(beats(json!({"lease": bad})), "/leases/0/lease"));
    }
    for seen in [json!("stop"), json!(""), json!(1), json!(["cancel"]), json!("Cancel")] {
        cases.push(case(beats(json!({"lease": lease, "seen": seen})), "/leases/0/seen"));
    }
    for fraction in [json!(7.5), json!(-0.1), json!(1.000_001), json!("0.5"), json!(1e308), json!([0.5])] {
        cases.push(case(
            beats(json!({"lease": lease, "progress": {"fraction": fraction}})),
            "/leases/0/progress/fraction",
        ));
    }
    for message in [json!(""), json!("a\nb"), json!("x".repeat(1025)), json!(7), json!("\u{0}")] {
        cases
            .push(case(beats(json!({"lease": lease, "progress": {"message": message}})), "/leases/0/progress/message"));
    }
    for progress in [json!(0.5), json!("half"), json!([0.5, "m"])] {
        cases.push(case(beats(json!({"lease": lease, "progress": progress})), "/leases/0/progress"));
    }
    cases.push(case(beats(json!({"lease": lease, "progress": {"percent": 1}})), "/leases/0/progress/percent"));
    assert_each_refused(&server, ROUTES[1], &cases).await;
    let id = &lease[..36];
    assert_eq!(server.task(id).await["progress"], Value::Null);
    assert_eq!(poll_directive(&server, "w", &lease).await, None);
}

fn bad_leases(lease: &str) -> Vec<Value> {
    let (id, secret) = (&lease[..36], lease.rsplit('.').next().unwrap());
    let texts = [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        id.to_owned(),
        format!("{id}.1"),
        format!("{id}.-1.{secret}"),
        format!("{id}.4294967296.{secret}"),
        format!("{id}.x.{secret}"),
        format!("{id}..{secret}"),
        format!("{lease}.x"),
        format!(" {lease}"),
        format!("x{lease}"),
        format!("{}.1.{secret}", id.to_uppercase()),
        format!("{}.1.{secret}", id.replace('-', "")),
        "x".repeat(100_000),
    ];
    texts.into_iter().map(Value::from).chain([json!(null), json!(1), json!([lease]), json!({"lease": lease})]).collect()
}

#[tokio::test]
async fn the_problem_of_an_acknowledgement_names_the_wrong_field() {
    let (server, lease) = server().await;
    cancel(&server, &lease[..36]).await;
    let mut cases = vec![case(json!({}), ""), case(json!({"lease": lease, "step": "x"}), "/step")];
    cases.extend(bad_leases(&lease).into_iter().map(|bad| case(json!({"lease": bad}), "/lease")));
    for step in [json!(""), json!(" "), json!("a\nb"), json!("x".repeat(1025)), json!(1), json!(["x"])] {
        cases.push(case(json!({"lease": lease, "stopping_after": step}), "/stopping_after"));
    }
    for end in [json!("soon"), json!(""), json!(0), json!("2026-01-01"), json!("2026-02-30T00:00:00Z")] {
        cases.push(case(json!({"lease": lease, "expected_end": end}), "/expected_end"));
    }
    assert_each_refused(&server, ROUTES[2], &cases).await;
}

#[tokio::test]
async fn the_problem_of_a_finish_names_the_wrong_field_of_its_item() {
    let (server, lease) = server().await;
    let whole = vec![
        case(json!({}), ""),
        case(json!({"items": []}), "/items"),
        case(json!({"items": {}}), "/items"),
        case(json!({"items": vec![json!({"lease": lease, "outcome": "succeeded"}); 1001]}), "/items"),
        case(json!({"items": [], "worker": "w"}), "/worker"),
    ];
    assert_each_refused(&server, ROUTES[3], &whole).await;
    let before = log_head(&server).await;
    let good = json!({"code": "c", "message": "m"});
    let mut cases = vec![
        (json!({"outcome": null}), "/outcome"),
        (json!({"outcome": "done"}), "/outcome"),
        (json!({"outcome": 1}), "/outcome"),
        (json!({"outcome": "failed"}), "/error"),
        (json!({"outcome": "succeeded", "error": good}), "/error"),
        (json!({"outcome": "released", "error": good}), "/error"),
        (json!({"outcome": "released", "message": "m"}), "/message"),
        (json!({"outcome": "released", "result": 1}), "/result"),
        (json!({"outcome": "failed", "error": good, "result": 1}), "/result"),
        (json!({"outcome": "failed", "error": good, "message": "m"}), "/message"),
        (json!({"outcome": "succeeded", "retryable": true}), "/retryable"),
        (json!({"outcome": "failed", "error": good, "retryable": 1}), "/retryable"),
        (json!({"outcome": "failed", "error": "c"}), "/error"),
        (json!({"outcome": "failed", "error": {"code": "c"}}), "/error"),
        (json!({"outcome": "failed", "error": {"code": "", "message": "m"}}), "/error/code"),
        (json!({"outcome": "failed", "error": {"code": "x".repeat(65), "message": "m"}}), "/error/code"),
        (json!({"outcome": "failed", "error": {"code": "c", "message": "a\nb"}}), "/error/message"),
        (json!({"outcome": "failed", "error": {"code": "c", "message": "m", "more": 1}}), "/error/more"),
        (json!({"outcome": "succeeded", "message": ""}), "/message"),
        (json!({"outcome": "succeeded", "message": "x".repeat(1025)}), "/message"),
        (json!({"outcome": "succeeded", "unknown": 1}), "/unknown"),
    ];
    for code in ["lease_expired", "timed_out", "server_restarted"] {
        cases.push((json!({"outcome": "failed", "error": {"code": code, "message": "m"}}), "/error/code"));
    }
    for (mut item, pointer) in cases {
        item["lease"] = json!(lease);
        let answer = finish(&server, item.clone()).await;
        assert_refused(&answer, "invalid_request");
        assert_eq!(pointers_in(&answer["problem"]), [pointer], "{item}: {answer}");
    }
    for bad in bad_leases(&lease) {
        assert_refused(&finish(&server, json!({"lease": bad, "outcome": "succeeded"})).await, "invalid_request");
    }
    let twice = format!(r#"{{"items":[{{"lease":"{lease}","lease":"{lease}","outcome":"succeeded"}}]}}"#);
    let twice = raw_http::post(&server, ROUTES[3], twice.as_bytes());
    assert_eq!(pointers_in(&twice.body["items"][0]["problem"]), ["/lease"], "{}", twice.text);
    for item in [json!(null), json!(7), json!([lease, "succeeded"]), json!("x")] {
        assert_refused(&finish(&server, item).await, "invalid_request");
    }
    assert_eq!(log_head(&server).await, before);
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}), "the lease is as it was");
}

#[tokio::test]
async fn an_item_that_is_too_large_is_refused_alone() {
    let (server, lease) = server().await;
    let (_, small) = submit_and_take(&server, "w", json!({})).await;
    let before = log_head(&server).await["position"].as_u64().unwrap();
    let result = |bytes: usize| json!({"lease": lease, "outcome": "succeeded", "result": "x".repeat(bytes - 2)});
    let other = json!({"lease": small, "outcome": "succeeded"});
    let answer = server.post(ROUTES[3], &json!({"items": [result(5 * 1024 * 1024), other]})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_refused(&answer.body["items"][0], "too_large");
    assert_eq!(answer.body["items"][1], json!({"status": "succeeded"}), "{}", answer.text);
    assert_eq!(answer.body["position"], before + 1);
    assert_refused(&finish(&server, result(256 * 1024 + 1)).await, "too_large");
    let nested = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let refused = finish(&server, json!({"lease": lease, "outcome": "succeeded", "result": nested})).await;
    assert_refused(&refused, "invalid_request");
    assert_eq!(pointers_in(&refused["problem"]), ["/result"]);

    let beyond = vec![b' '; 17 * 1024 * 1024];
    for path in ROUTES {
        raw_http::post(&server, path, &beyond).assert_problem(413, "too_large");
    }
    for path in [ROUTES[0], ROUTES[2]] {
        raw_http::post(&server, path, &beyond[..=1024 * 1024]).assert_problem(413, "too_large");
    }
    assert_eq!(log_head(&server).await["position"], before + 1);
    assert_eq!(finish(&server, result(256 * 1024)).await, json!({"status": "succeeded"}), "what just fits is taken");
}

#[tokio::test]
async fn a_worker_that_lies_and_floods_does_not_keep_others_from_their_work() {
    let (server, lease) = server().await;
    let rubbish: Vec<Value> =
        (0..1000).map(|n| json!({"lease": format!("{}.{n}.x", uuid::Uuid::now_v7()), "seen": "cancel"})).collect();
    let mut mixed = rubbish.clone();
    mixed[500] = json!({"lease": lease});
    let before = log_head(&server).await;
    let flood = async {
        for _ in 0..5 {
            let answer = server.post(ROUTES[1], &json!({"worker": "liar", "leases": rubbish, "wait_s": 30})).await;
            let directives = answer.body["directives"].as_array().unwrap();
            assert!(directives.len() == 1000 && directives.iter().all(|item| item["directive"] == "lost"));
            let items: Vec<Value> =
                rubbish.iter().map(|beat| json!({"lease": beat["lease"], "outcome": "succeeded"})).collect();
            let answer = server.post(ROUTES[3], &json!({"items": items})).await;
            assert!(
                answer.body["items"].as_array().unwrap().iter().all(|item| item["problem"]["code"] == "lease_lost")
            );
        }
    };
    let honest = async {
        for _ in 0..20 {
            assert_eq!(poll_directive(&server, "w", &lease).await, None);
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, async { tokio::join!(flood, honest) }).await.unwrap();
    let answer = server.post(ROUTES[1], &json!({"worker": "w", "leases": mixed, "wait_s": 30})).await;
    assert_eq!(answer.body["directives"].as_array().unwrap().len(), 999, "one of them is its own");
    assert_eq!(log_head(&server).await, before);
    assert_eq!(succeed(&server, &lease).await, json!({"status": "succeeded"}));
}
