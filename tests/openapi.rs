//! The description of the HTTP API at `/openapi.json`: it is complete, it is valid, and the server's responses match it.

mod bodies;
mod contract;
mod document;
mod live;
mod markdown;
mod responses;

use serde_json::{Value, json};

use super::support::Server;

/// The description, as the server sends it.
async fn description(server: &Server) -> Value {
    let response = server.get("/openapi.json").await;
    assert_eq!((response.status, response.header("content-type")), (200, "application/json"), "{}", response.text);
    response.body
}

/// The operations of the document: the method in upper case, the path, and the operation.
fn operations(document: &Value) -> impl Iterator<Item = (String, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (method.to_uppercase(), path.as_str(), operation))
    })
}

/// The value, or what its `$ref` points to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(reference) = value["$ref"].as_str() else { return value };
    document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} is not in the document"))
}

/// Checks the value with the schema, whose references point into the document.
fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let root = json!({"components": document["components"], "allOf": [schema]});
    let validator = jsonschema::draft202012::new(&root).unwrap_or_else(|error| panic!("{error}: {schema:#}"));
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}
