//! The bodies that the server accepts have the fields of the document, and no others.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::super::support::Server;
use super::{description, operations, resolve};

/// Names of fields in the text of a refusal: "expected one of `a`, `b`".
fn names_in(detail: &str) -> BTreeSet<String> {
    let (_, expected) = detail.split_once("expected ").unwrap_or_else(|| panic!("no field is expected: {detail}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The objects in a schema of a body, each with a body that has an unknown field there. `wrap` makes the body.
fn objects<'a>(
    document: &'a Value,
    schema: &'a Value,
    wrap: &dyn Fn(Value) -> Value,
    found: &mut Vec<(&'a Value, Value)>,
) {
    let schema = resolve(document, schema);
    if schema["type"] == "array" {
        return objects(document, &schema["items"], &|item| wrap(json!([item])), found);
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    found.push((schema, wrap(json!({"no such field": 1}))));
    for (name, property) in properties {
        let wrap_property = |value: Value| {
            let mut object = json!({});
            object[name] = value;
            wrap(object)
        };
        objects(document, property, &wrap_property, found);
    }
}

#[tokio::test]
async fn the_fields_of_each_body_are_those_that_the_server_names_in_a_refusal() {
    let server = Server::start();
    let document = description(&server).await;
    let mut checked = 0;
    for (method, path, operation) in
        operations(&document).filter(|(.., operation)| operation.get("requestBody").is_some())
    {
        let url = server.url() + &path.replace("{id}", "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b").replace("{queue}", "q");
        let mut found = Vec::new();
        objects(
            &document,
            &operation["requestBody"]["content"]["application/json"]["schema"],
            &|body| body,
            &mut found,
        );
        for (schema, body) in found {
            let request = server.client().request(method.parse().unwrap(), &url).json(&body);
            let response = server.send(request).await;
            let text = response.text.replace("\\\"", "\"");
            // The fields of a filter have no list in the code. The tests of lists use each.
            if text.contains("this route has no such field") || !text.contains("expected ") {
                continue;
            }
            let problem = if response.status == 200 { &response.body["items"][0]["problem"] } else { &response.body };
            let detail = problem["errors"][0]["detail"].as_str().unwrap_or_else(|| panic!("{body}: {text}"));
            let described: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
            let mut accepted = names_in(detail);
            if path == "/v1/tasks" {
                // This route has its own refusal of the field, which says that the key is a header.
                assert!(accepted.remove("idempotency_key"), "{detail}");
            }
            assert_eq!(accepted, described, "{method} {path} {body}: {detail}");
            checked += 1;
        }
    }
    assert!(checked >= 15, "only {checked} objects were compared");
}
