//! The limits of an input and a result count the compact text: what stands in the log.

use super::*;

/// A list of texts with much space around them: its compact text has this many bytes.
fn spaced(bytes: usize) -> String {
    let text = "x".repeat(bytes - r#"["a",""]"#.len());
    format!("[{0}\"a\"{0},{0}\"{text}\"{0}]", " ".repeat(40_000))
}

#[tokio::test]
async fn the_space_around_the_tokens_of_an_input_does_not_count() {
    let server = Server::start();
    submit(&server, &spaced(65_536));
    let response =
        raw_http::post(&server, "/v1/tasks", format!(r#"{{"kind":"a","input":{}}}"#, spaced(65_537)).as_bytes());
    assert_eq!(pointers(response.assert_problem(413, "too_large")), ["/input"]);
}

#[tokio::test]
async fn the_space_around_the_tokens_of_a_result_does_not_count() {
    let server = Server::start();
    submit(&server, "null");
    let (lease, _) = take(&server);
    let refused = json_of(&finish(&server, &lease, &spaced(262_145)));
    let problem = &refused["items"][0]["problem"];
    assert_eq!((problem["code"].as_str(), pointers_in(problem)), (Some("too_large"), vec!["/result"]), "{refused}");
    assert!(finish(&server, &lease, &spaced(262_144)).contains(r#""status":"succeeded""#));
}

/// A number counts as it is written, and so do escapes: nothing is longer in the log than it was in the request.
#[tokio::test]
async fn numbers_and_escapes_count_as_they_are_written() {
    let server = Server::start();
    for (one, bytes) in [("1.50", 4), ("\"\\u0041\"", 8), ("1e5", 3)] {
        let list = |bytes_of_all: usize| {
            let count = (bytes_of_all - 1) / (bytes + 1);
            let all = format!("[{}]", vec![one; count].join(","));
            format!("{}{}", all, " ".repeat(9))
        };
        submit(&server, &list(65_536));
        let body = format!(r#"{{"kind":"a","input":{}}}"#, list(65_536 + bytes + 1));
        raw_http::post(&server, "/v1/tasks", body.as_bytes()).assert_problem(413, "too_large");
    }
}
