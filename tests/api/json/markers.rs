//! The keys by which `serde_json` marks raw values and numbers inside itself are plain keys in a request.

use serde_json::json;

use super::*;
use crate::support::LiveSocket;

const RAW: &str = "$serde_json::private::RawValue";
const NUMBER: &str = "$serde_json::private::Number";

/// Objects with a marker that would be replaced, or refused, by a parser that knows the marker.
fn marked() -> Vec<String> {
    let mut all = Vec::new();
    for marker in [RAW, NUMBER] {
        for text in ["1", "[1,2]", "1.50", "no JSON", "{\\\"x\\\":1,\\\"x\\\":2}", "{}", ""] {
            all.push(format!(r#"{{"{marker}":"{text}"}}"#));
        }
        all.push(format!(r#"{{"{marker}":1}}"#));
        all.push(format!(r#"[{{"a":{{"{marker}":"2","b":3}}}},1]"#));
        all.push(format!(r#"{{"\u0024{}":"3"}}"#, &marker[1..]));
    }
    all
}

#[tokio::test]
async fn an_input_and_a_result_with_a_marker_are_kept_as_they_were_sent() {
    let server = Server::start();
    for value in marked() {
        let id = submit(&server, &value);
        let (lease, leased) = take(&server);
        assert!(leased.contains(&format!(r#""input":{value}"#)), "{value}: {leased}");
        finish(&server, &lease, &value);
        for text in shown(&server, &id).await {
            assert!(text.contains(&format!(r#""input":{value}"#)), "{value}: {text}");
            assert!(text.contains(&format!(r#""result":{value}"#)), "{value}: {text}");
        }
    }
}

#[tokio::test]
async fn the_items_of_a_batch_and_of_a_schedule_keep_their_markers() {
    let server = Server::start();
    let all = marked();
    let items: Vec<String> = all.iter().map(|value| format!(r#"{{"kind":"a","input":{value}}}"#)).collect();
    let response = post(&server, "/v1/tasks/batch", &format!(r#"{{"items":[{}]}}"#, items.join(",")), 200);
    let response = json_of(&response);
    for (item, value) in response["items"].as_array().unwrap().iter().zip(&all) {
        let id = item["id"].as_str().unwrap_or_else(|| panic!("{value}: {item}"));
        assert!(shown(&server, id).await.iter().all(|text| text.contains(&format!(r#""input":{value}"#))), "{value}");
    }
    for value in all {
        let body = format!(r#"{{"cron":"0 0 * * *","task":{{"kind":"a","input":{value}}}}}"#);
        let created = post(&server, "/v1/schedules", &body, 201);
        assert!(created.contains(&format!(r#""input":{value}"#)), "{created}");
    }
}

#[tokio::test]
async fn a_marker_in_place_of_an_object_is_an_unknown_field() {
    let server = Server::start();
    let task = r#"{\"kind\":\"a\"}"#;
    for marker in [RAW, NUMBER] {
        let pointer = format!("/{marker}");
        for (path, inner) in [
            ("/v1/tasks", task),
            ("/v1/tasks/batch", r#"{\"items\":[{\"kind\":\"a\"}]}"#),
            ("/v1/leases/finish", r#"{\"items\":[]}"#),
            ("/v1/bell/seen", r#"{\"position\":0}"#),
            ("/v1/leases", r#"{\"worker\":\"w\"}"#),
        ] {
            let response = raw_http::post(&server, path, format!(r#"{{"{marker}":"{inner}"}}"#).as_bytes());
            assert_eq!(
                pointers(response.assert_problem(422, "invalid_request")),
                [&*pointer],
                "{path}: {}",
                response.text
            );
        }
        let body = format!(r#"{{"items":[{{"{marker}":"{task}"}}]}}"#);
        for path in ["/v1/tasks/batch", "/v1/leases/finish"] {
            let response = json_of(&post(&server, path, &body, 200));
            let problem = &response["items"][0]["problem"];
            assert_eq!((problem["code"].as_str(), pointers_in(problem)), (Some("invalid_request"), vec![&*pointer]));
        }
        let body = format!(r#"{{"filter":{{"{marker}":"{{\"kind\":\"a\"}}"}},"dry_run":true}}"#);
        let response = raw_http::post(&server, "/v1/tasks/cancel", body.as_bytes());
        assert_eq!(pointers(response.assert_problem(422, "invalid_request")), [format!("/filter{pointer}")]);
    }
    assert_eq!(log_head(&server).await["position"], 0);
}

#[tokio::test]
async fn a_text_cannot_be_given_as_a_marker() {
    let server = Server::start();
    for marker in [RAW, NUMBER] {
        for (field, value) in [
            ("title", format!(r#"{{"{marker}":"\"t\""}}"#)),
            ("queue", format!(r#"{{"{marker}":"\"q\""}}"#)),
            ("priority", format!(r#"{{"{marker}":"1"}}"#)),
            ("labels", format!(r#"{{"x":{{"{marker}":"\"v\""}}}}"#)),
        ] {
            let body = format!(r#"{{"kind":"a","{field}":{value}}}"#);
            raw_http::post(&server, "/v1/tasks", body.as_bytes()).assert_problem(422, "invalid_request");
        }
    }
    assert_eq!(log_head(&server).await["position"], 0);
    // As the key of a label it would hold a colon.
    let body = format!(r#"{{"kind":"a","labels":{{"{RAW}":"{{\"x\":\"y\"}}"}}}}"#);
    let response = raw_http::post(&server, "/v1/tasks", body.as_bytes());
    assert_eq!(pointers(response.assert_problem(422, "invalid_request")), [format!("/labels/{RAW}")]);
}

#[tokio::test]
async fn a_websocket_does_not_know_the_markers_either() {
    let server = Server::start();
    for marker in [RAW, NUMBER] {
        for message in [
            format!(r#"{{"{marker}":"{{\"type\":\"resync\"}}"}}"#),
            format!(r#"{{"type":"subscribe","filter":{{"{marker}":"{{\"kind\":\"a\"}}"}}}}"#),
            format!(r#"{{"type":"seen","position":{{"{marker}":"0"}}}}"#),
        ] {
            let mut live = LiveSocket::open(&server).await;
            live.next_of_type("snapshot").await;
            live.send_text(&message).await;
            let response = live.next().await;
            assert_eq!(
                (&response["type"], &response["status"]),
                (&json!("problem"), &json!(422)),
                "{message}: {response}"
            );
        }
    }
}

#[tokio::test]
async fn a_marker_and_what_it_would_stand_for_are_different_requests() {
    let server = Server::start();
    let mut tasks = 0;
    for (marker, plain) in [(RAW, "1"), (RAW, "[2]"), (NUMBER, "1")] {
        tasks += 1;
        let headers = format!("Idempotency-Key: {tasks}\r\nContent-Type: application/json\r\n");
        let send = |input: &str| {
            let body = format!(r#"{{"kind":"a","input":{input}}}"#);
            let headers = format!("{headers}Content-Length: {}\r\n", body.len());
            raw_http::raw(&server, "POST /v1/tasks", &headers, body.as_bytes())
        };
        let marked = format!(r#"{{"{marker}":"{plain}"}}"#);
        assert_eq!(send(&marked).status, 201, "{marked}");
        assert_eq!(send(&marked).status, 200, "{marked}");
        send(plain).assert_problem(422, "idempotency_key_reused");
    }
    assert_eq!(log_head(&server).await["position"], tasks);
}
