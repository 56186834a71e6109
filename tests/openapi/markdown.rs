//! `docs/api.md`, which is made from the document.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use taskbell::http::plumbing::error::Refusal;

use super::super::support::Server;
use super::{description, operations, resolve};

/// If this variable is set, the test writes the file instead of comparing it.
const WRITE: &str = "TASKBELL_WRITE_DOCS";

const HEAD: &str = "\
<!-- Made from the descriptions of the routes in src/http; `make docs` writes it again. -->

# The HTTP API

";

#[tokio::test]
async fn the_page_about_the_api_is_made_from_the_document() {
    let made = page(&description(&Server::start()).await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differing = written.lines().zip(made.lines()).find(|(written, made)| written != made);
    assert!(written == made, "docs/api.md is not current; `make docs` writes it. First difference: {differing:#?}");
}

fn page(document: &Value) -> String {
    let mut page = HEAD.to_owned();
    let _ = write!(
        page,
        "{}\n\nThe same as an OpenAPI 3.1 document: `GET /openapi.json`.\n\n",
        text(&document["info"]["description"])
    );
    for tag in document["tags"].as_array().unwrap() {
        let routes: Vec<_> =
            operations(document).filter(|(.., operation)| operation["tags"][0] == tag["name"]).collect();
        if routes.is_empty() {
            continue;
        }
        let _ = writeln!(page, "- **{}**: {}", text(&tag["name"]), text(&tag["description"]));
        for (method, path, operation) in routes {
            let title = format!("{method} {path}");
            let _ = writeln!(page, "  - [`{title}`](#{}) {}", anchor(&title), text(&operation["summary"]));
        }
    }
    page.push_str("- [**schemas**](#schemas)\n- [**errors**](#errors)\n");
    for tag in document["tags"].as_array().unwrap() {
        for (method, path, operation) in operations(document).filter(|(.., it)| it["tags"][0] == tag["name"]) {
            route(document, &mut page, &format!("{method} {path}"), operation);
        }
    }
    schemas(document, &mut page);
    errors(document, &mut page);
    page
}

fn route(document: &Value, page: &mut String, title: &str, operation: &Value) {
    let _ = writeln!(page, "\n## `{title}`\n\n{}.\n\n{}", text(&operation["summary"]), text(&operation["description"]));
    if let Some(roles) = operation["x-roles"].as_array() {
        let roles: Vec<String> = roles.iter().map(|role| format!("`{}`", text(role))).collect();
        let _ = writeln!(page, "\nRoles: {}.", roles.join(", "));
    }
    if operation["security"].as_array().is_some_and(Vec::is_empty) {
        page.push_str("\nNo credential is needed.\n");
    }
    let parameters = operation["parameters"].as_array().unwrap();
    if !parameters.is_empty() {
        page.push_str("\n| parameter | in | value | |\n|---|---|---|---|\n");
        for parameter in parameters {
            let [name, place, about] = ["name", "in", "description"].map(|key| text(&parameter[key]));
            let _ = writeln!(page, "| `{name}` | {place} | {} | {} |", kind(&parameter["schema"]), cell(about));
        }
    }
    if let Some(body) = operation.get("requestBody") {
        let content = &body["content"]["application/json"];
        let optional = if body["required"] == true { "" } else { ", which may be empty" };
        let _ = write!(page, "\nThe body{optional}:\n\n");
        fields(document, page, &content["schema"]);
        examples(document, page, content);
    }
    responses(document, page, operation);
}

fn responses(document: &Value, page: &mut String, operation: &Value) {
    let mut refusals = Vec::new();
    page.push_str("\n| status | response | |\n|---|---|---|\n");
    for (status, response) in operation["responses"].as_object().unwrap() {
        let response = resolve(document, response);
        let content = response["content"].as_object();
        if let Some(problem) = content.and_then(|content| content.get("application/problem+json")) {
            refusals.extend(problem["examples"].as_object().unwrap().keys().map(|code| (status.clone(), code.clone())));
            continue;
        }
        let types = content
            .into_iter()
            .flatten()
            .map(|(media_type, content)| format!("`{media_type}`: {}", kind(&content["schema"])));
        let body = types.collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            page,
            "| {status} | {} | {} |",
            if body.is_empty() { "no body" } else { &body },
            cell(text(&response["description"]))
        );
    }
    let everywhere = shared_codes(document);
    let own: Vec<String> = refusals
        .iter()
        .filter(|(_, code)| !everywhere.contains(code))
        .map(|(status, code)| format!("{status} [`{code}`](#{code})"))
        .collect();
    let own = if own.is_empty() { String::new() } else { format!("{}, and ", own.join(", ")) };
    let _ = writeln!(page, "\nErrors: {own}[those of every route](#errors).");
    for (status, response) in
        operation["responses"].as_object().unwrap().iter().filter(|(status, _)| status.starts_with('2'))
    {
        for content in response["content"].as_object().into_iter().flatten().map(|(_, content)| content) {
            if content["schema"].get("$ref").is_none() && content["schema"].get("properties").is_some() {
                let _ = write!(page, "\nThe body of {status}:\n\n");
                fields(document, page, &content["schema"]);
            }
            examples(document, page, content);
        }
    }
}

/// The codes that every route may give.
fn shared_codes(document: &Value) -> Vec<String> {
    let codes_of = |operation: &Value| -> Vec<String> {
        let responses = operation["responses"].as_object().unwrap().values();
        let examples =
            responses.map(|response| &resolve(document, response)["content"]["application/problem+json"]["examples"]);
        examples.filter_map(Value::as_object).flat_map(|examples| examples.keys().cloned()).collect()
    };
    let mut shared: Option<Vec<String>> = None;
    for (.., operation) in operations(document) {
        let codes = codes_of(operation);
        shared = Some(
            shared.map_or(codes.clone(), |shared| shared.into_iter().filter(|code| codes.contains(code)).collect()),
        );
    }
    shared.unwrap_or_default()
}

fn examples(document: &Value, page: &mut String, content: &Value) {
    for (name, example) in content["examples"].as_object().into_iter().flatten() {
        let value = serde_json::to_string_pretty(&resolve(document, example)["value"]).unwrap();
        let _ = writeln!(page, "\n<details><summary>Example: {name}</summary>\n\n```json\n{value}\n```\n\n</details>");
    }
}

/// The table of the fields of an object, with those of the objects inside it.
fn fields(document: &Value, page: &mut String, schema: &Value) {
    page.push_str("| field | value | |\n|---|---|---|\n");
    rows(page, resolve(document, schema), "");
}

fn rows(page: &mut String, schema: &Value, prefix: &str) {
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties: BTreeMap<&String, &Value> = schema["properties"].as_object().into_iter().flatten().collect();
    let is_optional = |name: &String| !required.contains(&name.as_str());
    let (first, second): (Vec<_>, Vec<_>) = properties.into_iter().partition(|(name, _)| !is_optional(name));
    for (name, property) in first.into_iter().chain(second) {
        let optional = if is_optional(name) { ", optional" } else { "" };
        let about = cell(text(&property["description"]));
        let _ = writeln!(page, "| `{prefix}{name}` | {}{optional} | {about} |", kind(property));
        rows(page, property, &format!("{prefix}{name}."));
        rows(page, &property["items"], &format!("{prefix}{name}[]."));
    }
}

/// The values that a schema allows, in words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array().filter(|_| schema.get("type").is_none()) {
            return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(names) = schema["enum"].as_array() {
        let name = |name: &Value| name.as_str().map_or("null".to_owned(), |name| format!("`{name}`"));
        let names: Vec<String> = names.iter().map(name).collect();
        return if names.len() > 9 { "text".to_owned() } else { names.join(", ") };
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => return "any JSON".to_owned(),
    };
    types.into_iter().map(|name| of_type(name, schema)).collect::<Vec<_>>().join(" or ")
}

fn of_type(name: &str, schema: &Value) -> String {
    let range = |[min, max]: [&str; 2], unit: &str| match (schema[min].as_number(), schema[max].as_number()) {
        (Some(_), Some(max)) if max.as_u64() == Some(u64::MAX) => String::new(),
        (Some(min), Some(max)) => format!(", {min} to {max}{unit}"),
        (Some(min), None) if min.as_u64() != Some(0) => format!(", from {min}{unit}"),
        (None, Some(max)) => format!(", at most {max}{unit}"),
        _ => String::new(),
    };
    match name {
        "string" if schema["format"] == "uuid" => "id".to_owned(),
        "string" if schema["format"] == "date-time" || text(&schema["pattern"]).contains("T[0-9]") => "time".to_owned(),
        "string" => {
            let unit = if schema.get("x-max-bytes").is_some() { " bytes" } else { " characters" };
            let form = schema["pattern"].as_str().filter(|pattern| pattern.len() < 30 && !pattern.contains('|'));
            format!(
                "text{}{}",
                range(["minLength", "maxLength"], unit),
                form.map_or(String::new(), |form| format!(", `{form}`"))
            )
        }
        "integer" => format!("whole number{}", range(["minimum", "maximum"], "")),
        "number" => format!("number{}", range(["minimum", "maximum"], "")),
        "boolean" => "`true` or `false`".to_owned(),
        "array" => format!("list{} of {}", range(["minItems", "maxItems"], ""), kind(&schema["items"])),
        other => other.to_owned(),
    }
}

fn schemas(document: &Value, page: &mut String) {
    page.push_str("\n## Schemas\n\nTimes are RFC 3339 in UTC with microseconds. The schemas of the data of events are in [`events/`](../events/README.md).\n");
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name.ends_with("Data") {
            continue;
        }
        let about = schema["description"].as_str().map_or(String::new(), |about| format!("\n{about}\n"));
        let _ = writeln!(page, "\n### {name}\n{about}");
        if schema.get("properties").is_some() {
            fields(document, page, schema);
        } else {
            let _ = writeln!(page, "{}", kind(schema));
        }
    }
}

fn errors(document: &Value, page: &mut String) {
    page.push_str("\n## Errors\n\nEvery route may give: ");
    let shared: Vec<String> = shared_codes(document).iter().map(|code| format!("[`{code}`](#{code})")).collect();
    let _ = writeln!(page, "{}. A retryable 429 or 503 has the header `Retry-After`.", shared.join(", "));
    for (code, example) in document["components"]["examples"].as_object().unwrap() {
        let refusals: Vec<_> =
            Refusal::ALL.iter().map(|refusal| (refusal, refusal.properties())).filter(|it| it.1.1 == code).collect();
        let retryable: Vec<bool> = refusals.iter().map(|it| it.1.2).collect();
        let retryable = if retryable.iter().all(|it| *it) {
            "retryable"
        } else if retryable.contains(&true) {
            "retryable, or not: `retryable` says so"
        } else {
            "not retryable"
        };
        let status = refusals.first().map_or(0, |it| it.1.0.as_u16());
        let value = serde_json::to_string_pretty(&example["value"]).unwrap();
        let _ = writeln!(
            page,
            "\n### `{code}`\n\n{status}, {retryable}. {}\n\n<details><summary>Example</summary>\n\n```json\n{value}\n```\n\n</details>",
            text(&example["summary"])
        );
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Text in a cell of a table.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// The anchor that Markdown pages give a heading.
fn anchor(title: &str) -> String {
    title
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
