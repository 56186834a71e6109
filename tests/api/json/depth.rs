//! A value has at most 32 levels, counted from the value itself, on every route; a deeper one refuses its own item alone.

use super::*;

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[tokio::test]
async fn an_input_has_at_most_32_levels_on_every_route() {
    let server = Server::start();
    for (levels, fits) in [(31, true), (32, true), (33, false), (127, false), (128, false), (100_000, false)] {
        let task = format!(r#"{{"kind":"a","input":{}}}"#, nested(levels));
        let response = raw_http::post(&server, "/v1/tasks", task.as_bytes());
        assert_eq!((response.status, pointers(&response)), if fits { (201, vec![]) } else { (422, vec!["/input"]) });
        let schedule = format!(r#"{{"cron":"0 0 * * *","task":{task}}}"#);
        let response = raw_http::post(&server, "/v1/schedules", schedule.as_bytes());
        assert_eq!(
            (response.status, pointers(&response)),
            if fits { (201, vec![]) } else { (422, vec!["/task/input"]) }
        );
        let batch = format!(r#"{{"items":[{{"kind":"a"}},{task},{{"kind":"a"}}]}}"#);
        let response = json_of(&post(&server, "/v1/tasks/batch", &batch, 200));
        let items = &response["items"];
        assert!(items[0]["id"].is_string() && items[2]["id"].is_string(), "{levels}: {response}");
        assert_eq!(items[1]["id"].is_string(), fits, "{levels}: {response}");
        assert_eq!(
            pointers_in(&items[1]["problem"]),
            if fits { vec![] } else { vec!["/input"] },
            "{levels}: {response}"
        );
    }
}

#[tokio::test]
async fn a_result_has_at_most_32_levels_and_a_deeper_one_refuses_its_item_alone() {
    let server = Server::start();
    for (levels, fits) in [(32, true), (33, false), (100_000, false)] {
        for _ in 0..2 {
            submit(&server, "null");
        }
        let item =
            |lease: &str, result: &str| format!(r#"{{"lease":"{lease}","outcome":"succeeded","result":{result}}}"#);
        let ((deep, _), (other, _)) = (take(&server), take(&server));
        let items = [item(&deep, &nested(levels)), item(&other, "1")].join(",");
        let response = json_of(&post(&server, "/v1/leases/finish", &format!(r#"{{"items":[{items}]}}"#), 200));
        assert_eq!(response["items"][1]["status"], "succeeded", "{levels}: {response}");
        let found = pointers_in(&response["items"][0]["problem"]);
        assert_eq!(found, if fits { vec![] } else { vec!["/result"] }, "{levels}: {response}");
        if !fits {
            assert!(finish(&server, &deep, "null").contains(r#""status":"succeeded""#), "its lease is still good");
        }
    }
}

#[tokio::test]
async fn one_wrong_item_refuses_itself_and_not_its_batch() {
    let server = Server::start();
    let large = format!(r#"{{"kind":"a","input":"{}"}}"#, "x".repeat(65_536));
    let cases = [
        (r#"{"kind":"a","kind":"a"}"#, "invalid_request", "/kind"),
        (r#"{"kind":"a","input":[0,{"x":1,"\u0078":2}]}"#, "invalid_request", "/input/1/x"),
        (r#"{"kind":"a","labels":{"k":"1","k":"2"}}"#, "invalid_request", "/labels/k"),
        (r#"{"kind":"a","title":[[[]]]}"#, "invalid_request", "/title"),
        (r#"{"kind":"a","idempotency_key":5}"#, "invalid_request", "/idempotency_key"),
        (r#"{"kind":"a","idempotency_key":""}"#, "invalid_request", "/idempotency_key"),
        (r#"{"kind":"a","priority":1e400}"#, "invalid_request", "/priority"),
        ("[]", "invalid_request", ""),
        ("1", "invalid_request", ""),
        (&large, "too_large", "/input"),
    ];
    let items: Vec<&str> = cases.iter().flat_map(|(item, ..)| [r#"{"kind":"a"}"#, item]).collect();
    let response = json_of(&post(&server, "/v1/tasks/batch", &format!(r#"{{"items":[{}]}}"#, items.join(",")), 200));
    let responses = response["items"].as_array().unwrap();
    for ((item, code, pointer), pair) in cases.iter().zip(responses.chunks(2)) {
        assert!(pair[0]["id"].is_string(), "{}", pair[0]);
        let problem = &pair[1]["problem"];
        assert_eq!(
            (problem["code"].as_str(), pointers_in(problem)),
            (Some(*code), vec![*pointer]),
            "{item:.80} {problem}"
        );
    }
    assert_eq!(log_head(&server).await["position"], cases.len());
}

#[tokio::test]
async fn what_is_no_json_refuses_the_whole_batch() {
    let server = Server::start();
    for item in [r#"{"kind":"a","input":[1,]}"#, r#"{"kind":"a","input":"\ud800"}"#, r#"{"kind":"a","kind":01}"#] {
        let body = format!(r#"{{"items":[{{"kind":"a"}},{item}]}}"#);
        for path in ["/v1/tasks/batch", "/v1/leases/finish"] {
            raw_http::post(&server, path, body.as_bytes()).assert_problem(400, "malformed_json");
        }
    }
    let response = raw_http::post(&server, "/v1/tasks/batch", br#"{"items":[],"items":[]}"#);
    assert_eq!(pointers(response.assert_problem(422, "invalid_request")), ["/items"]);
    assert_eq!(log_head(&server).await["position"], 0);
}
