//! An example of each refusal.

use serde_json::{Map, Value, json};

use crate::http::plumbing::error::{Problem, Refusal};
use crate::task::Invalid;

/// The examples by their codes.
#[must_use]
pub fn examples() -> Map<String, Value> {
    let mut examples = Map::new();
    for refusal in Refusal::ALL {
        let problem =
            Problem { request_id: Some("0190f3c2-a4b8-7def-8123-4567890a1b2c".to_owned()), ..example(*refusal) };
        let value = serde_json::to_value(&problem).unwrap_or_default();
        examples.entry(problem.code).or_insert_with(|| json!({"summary": refusal.meaning(), "value": value}));
    }
    examples
}

fn example(refusal: Refusal) -> Problem {
    let (status, ..) = refusal.properties();
    match refusal {
        Refusal::NotFound => Problem::not_found(),
        Refusal::InvalidRequest => Problem::invalid(vec![
            Invalid::new("/kind", "1 to 64 of a-z, 0-9, '.', '_', '-'"),
            Invalid::new("/max_attempts", "1 to 100"),
        ]),
        Refusal::TooLarge => Problem {
            errors: vec![Invalid::new("/input", "at most 65536 bytes as compact JSON (max_input_bytes)")],
            ..Problem::too_large("/input: more than 65536 bytes (max_input_bytes)")
        },
        Refusal::MethodNotAllowed
        | Refusal::UnsupportedMediaType
        | Refusal::UriTooLong
        | Refusal::HeadersTooLarge
        | Refusal::NotImplemented
        | Refusal::HttpVersionNotSupported
        | Refusal::Internal => Problem::of_status(status),
        other => Problem::new(other, detail(other)),
    }
}

/// The detail of the example; of the other refusals the meaning.
fn detail(refusal: Refusal) -> String {
    let text = match refusal {
        Refusal::MalformedJson => "the body is not valid JSON: expected `,` or `}` at line 1 column 18",
        Refusal::BadRequest => "the body ended too early: the client has closed the connection",
        Refusal::ForbiddenOrigin => "requests from pages of another origin are refused",
        Refusal::Timeout => "a body must arrive within 30s",
        Refusal::ExpectationFailed => "this server supports only the expectation 100-continue",
        Refusal::EmptyFilter => "an empty filter would cancel all tasks; give at least one field",
        Refusal::TooManyRequests => "the limit on long polls of this subject is 5000 (max_long_polls_per_subject)",
        Refusal::TooManyTasks => {
            "this owner has 100 tasks that are not final, which is the maximum (max_tasks_per_owner)"
        }
        Refusal::Behind => "the views have not reached that position yet",
        Refusal::NotReady => "the views have not reached position 41 within 5 s",
        Refusal::Unauthenticated => "a valid credential is needed: `Authorization: Bearer …`, or a session",
        Refusal::SessionNotNeeded => "this server requires no authentication: the local user has no session",
        other => return other.meaning().trim_end_matches('.').replace("[`Self::", "`").replace("`]", "`"),
    };
    text.to_owned()
}
