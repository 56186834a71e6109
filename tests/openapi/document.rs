//! The document itself: every route is in it, it is valid, and it has an example for every body and every code.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::Method;
use serde_json::Value;
use taskbell::http::plumbing::error::Refusal;
use taskbell::http::plumbing::openapi::events::types;
use taskbell::http::route_table;
use taskbell::store::codec;

use super::super::support::Server;
use super::{description, operations, resolve, violations};

/// The schema of OpenAPI 3.1 documents; see the README beside it.
const OPENAPI: &str = include_str!("oas-3.1.schema.json");

/// The path of the table with values in place of its parameters.
fn path_with_values(path: &str) -> String {
    path.replace("{id}", "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b").replace("{queue}", "a").replace("{file}", "app.js")
}

#[tokio::test]
async fn the_list_of_routes_has_the_methods_that_the_server_allows() {
    let server = Server::start();
    let mut methods: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (method, path) in route_table() {
        assert!(methods.entry(path).or_default().insert(method), "{method} {path} is listed twice");
    }
    for (path, methods) in methods {
        let url = server.url() + &path_with_values(path);
        let response = server.send(server.client().request(Method::PATCH, url)).await;
        response.assert_problem(405, "method_not_allowed");
        let allowed = response.header("allow").split(", ").filter(|method| *method != "HEAD").collect();
        assert_eq!(methods, allowed, "{path}");
    }
}

#[tokio::test]
async fn the_document_describes_each_route_and_no_other() {
    let document = description(&Server::start()).await;
    let described: BTreeSet<(String, String)> =
        operations(&document).map(|(method, path, _)| (method, path.to_owned())).collect();
    let served = route_table().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(described, served);
}

#[tokio::test]
async fn the_document_is_valid_openapi_and_its_schemas_are_valid() {
    let document = description(&Server::start()).await;
    let schema: Value = serde_json::from_str(OPENAPI).unwrap();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors: Vec<String> =
        validator.iter_errors(&document).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(jsonschema::meta::is_valid(schema), "{name} is not a JSON schema");
        violations(&document, schema, &Value::Null);
    }
}

#[tokio::test]
async fn every_operation_has_a_summary_a_description_and_a_name_of_its_own() {
    let document = description(&Server::start()).await;
    let tags: Vec<&Value> = document["tags"].as_array().unwrap().iter().map(|tag| &tag["name"]).collect();
    let mut names = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        for field in ["summary", "description"] {
            assert!(operation[field].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} has no {field}");
        }
        assert!(names.insert(operation["operationId"].as_str().unwrap()), "{method} {path}: the name exists");
        assert!(tags.contains(&&operation["tags"][0]), "{method} {path}: an unknown tag");
        let in_path = path.matches('{').count();
        let parameters = operation["parameters"].as_array().unwrap();
        assert_eq!(in_path, parameters.iter().filter(|it| it["in"] == "path").count(), "{method} {path}");
        assert!(parameters.iter().all(|it| it["description"].is_string()), "{method} {path}: {parameters:#?}");
    }
}

#[tokio::test]
async fn every_body_has_an_example_and_every_example_matches_its_schema() {
    let document = description(&Server::start()).await;
    for (method, path, operation) in operations(&document) {
        let body = operation.get("requestBody").map(|body| (&body["content"], true));
        let responses = operation["responses"].as_object().unwrap().values();
        let responses = responses.map(|response| (&resolve(&document, response)["content"], false));
        for (content, needs_example) in body.into_iter().chain(responses) {
            for (media_type, content) in content.as_object().into_iter().flatten() {
                let examples: Vec<_> = content["examples"].as_object().into_iter().flatten().collect();
                assert!(!needs_example || !examples.is_empty(), "{method} {path}: {media_type} has no example");
                for (name, example) in examples {
                    let example = resolve(&document, example);
                    let found = violations(&document, &content["schema"], &example["value"]);
                    assert!(found.is_empty(), "{method} {path}, {name}: {found:#?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_code_of_the_table_has_an_example_with_its_status() {
    let document = description(&Server::start()).await;
    let examples = document["components"]["examples"].as_object().unwrap();
    for refusal in Refusal::ALL {
        let (status, code, _) = refusal.properties();
        let value = &examples.get(code).unwrap_or_else(|| panic!("no example of {code}"))["value"];
        assert_eq!((value["code"].as_str(), &value["status"]), (Some(code), &status.as_u16().into()));
        assert!(value["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{code}");
    }
    let codes: BTreeSet<&str> = Refusal::ALL.iter().map(|refusal| refusal.properties().1).collect();
    assert_eq!(examples.keys().map(String::as_str).collect::<BTreeSet<_>>(), codes);
}

#[test]
fn the_document_has_the_schema_of_each_type_of_event() {
    let recorded: BTreeSet<&str> = codec::TYPES.iter().map(|(name, _)| *name).collect();
    assert_eq!(types().into_iter().collect::<BTreeSet<_>>(), recorded);
}
