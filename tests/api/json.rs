//! JSON means itself: what a client sends is kept as it was sent, and no key in it has a meaning to a library.

mod command_line;
mod depth;
mod markers;
mod numbers;
mod size;

use serde_json::Value;

use super::super::support::Server;
use super::{log_head, pointers, pointers_in, raw_http};

/// `POST` of this text; the text of the response, whose status must be this one.
#[track_caller]
fn post(server: &Server, path: &str, body: &str, status: u16) -> String {
    let response = raw_http::post(server, path, body.as_bytes());
    assert_eq!(response.status, status, "{path} {body:.300}: {:.600}", response.text);
    response.text
}

/// The JSON of this text, for fields whose values hold nothing special.
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Submits a task of the kind `a` with this text as its input; its id.
fn submit(server: &Server, input: &str) -> String {
    let created = post(server, "/v1/tasks", &format!(r#"{{"kind":"a","input":{input}}}"#), 201);
    id_of(&created)
}

/// The first id in an response, which may hold values that can't be parsed.
fn id_of(text: &str) -> String {
    between(text, r#""id":""#, "\"").to_owned()
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before} in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {text}")).0
}

/// Takes the lease of the next task of the kind `a`: its token, and the text of the response.
fn take(server: &Server) -> (String, String) {
    let response = post(server, "/v1/leases", r#"{"worker":"w","kinds":["a"],"wait_s":30}"#, 200);
    (between(&response, r#""lease":""#, "\"").to_owned(), response)
}

/// Finishes the lease with this text as its result; the text of the response.
fn finish(server: &Server, lease: &str, result: &str) -> String {
    let item = format!(r#"{{"lease":"{lease}","outcome":"succeeded","result":{result}}}"#);
    post(server, "/v1/leases/finish", &format!(r#"{{"items":[{item}]}}"#), 200)
}

/// Every text that shows the input or the result of this task: its page, its history, the log.
async fn shown(server: &Server, id: &str) -> [String; 3] {
    let page = server.get(&format!("/v1/tasks/{id}")).await;
    let events = server.get(&format!("/v1/tasks/{id}/events")).await;
    let log = server.get(&format!("/v1/log?stream=task-{id}")).await;
    assert_eq!([page.status, events.status, log.status], [200; 3], "{}", page.text);
    [page.text, events.text, log.text]
}

#[tokio::test]
async fn the_text_of_an_input_is_kept_but_for_the_space_around_its_tokens() {
    let server = Server::start();
    let sent = "{ \"b\" : [ 1 , \"a b\\u0020\\/\" ,\t{ } ] ,\r\n \"a\": \"\\u00fc ü\" , \"\": [ ] }";
    let kept = r#"{"b":[1,"a b\u0020\/",{}],"a":"\u00fc ü","":[]}"#;
    let id = submit(&server, sent);
    let (lease, leased) = take(&server);
    assert!(leased.contains(&format!(r#""input":{kept}"#)), "{leased}");
    finish(&server, &lease, sent);
    for text in shown(&server, &id).await {
        assert!(text.contains(&format!(r#""input":{kept}"#)), "{text}");
        assert!(text.contains(&format!(r#""result":{kept}"#)), "{text}");
    }
}
