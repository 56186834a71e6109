//! The whole document.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::operation::Operation;
use super::{answers, events, live, problems, tasks};

/// The introduction, in Markdown.
const INTRODUCTION: &str = "\
Background tasks that people can see and stop.

Requests and responses are JSON. Unknown fields, unknown query parameters, repeated fields and repeated parameters are refused. \
The response to a refused request is a problem (RFC 9457) with a `code` for programs. Numbers in `input` and `result` are kept \
exactly as written.

Each response that shows state has the header `Taskbell-Position`: the position in the log that it shows. A read may request at \
least a position with `min_position`. A write is answered when its events are durable and a following read on the same server \
shows them.

Limits whose setting is named are the defaults; a server may have others. A resource with `GET` also has `HEAD`. Each response \
has the header `X-Request-Id`.";

/// The groups of operations, each with its description.
const TAGS: [(&str, &str); 10] = [
    ("tasks", "Create tasks, list them, cancel them and run them again."),
    ("bell", "Exact counts of an owner's tasks, and what the owner has seen."),
    ("queues", "Where tasks wait. A paused queue starts no task."),
    ("schedules", "Create a task at each time of a cron expression."),
    ("workers", "Take leases of tasks, report progress and ends. For workers in other processes."),
    ("log", "The recorded events, which are the only source of everything else."),
    ("live", "Changes as they happen, over a websocket."),
    ("credentials", "Tokens, sessions and tickets."),
    ("server", "The state of the server, and this document."),
    ("pages", "The pages for people."),
];

/// Makes the document from its operations: the method in upper case, the path, and the description.
#[must_use]
pub fn document(operations: Vec<(&'static str, &'static str, Operation)>) -> Value {
    let (mut paths, mut responses) = (BTreeMap::<&str, Map<String, Value>>::new(), Map::new());
    for (method, path, operation) in operations {
        paths.entry(path).or_default().insert(method.to_lowercase(), operation.into_json(&mut responses));
    }
    let tag = |(name, description): &(&str, &str)| json!({"name": name, "description": description});
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://spec.openapis.org/oas/3.1/dialect/base",
        "info": {
            "title": "Taskbell",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The HTTP API of Taskbell",
            "description": INTRODUCTION,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "./", "description": "The server of this document."}],
        "tags": TAGS.iter().map(tag).collect::<Vec<_>>(),
        "security": [{"token": []}, {"session": []}, {}],
        "paths": paths,
        "components": components(&responses),
    })
}

fn components(responses: &Map<String, Value>) -> Value {
    let named = tasks::schemas().into_iter().chain(live::schemas()).chain([("TaskFilter", answers::task_filter())]);
    let mut schemas: Map<String, Value> = named.map(|(name, schema)| (name.to_owned(), schema.into_json())).collect();
    schemas.extend(events::schemas());
    let token = "An API token or a short-lived token of one subject. A server that requires no authentication accepts requests \
        without one.";
    json!({
        "schemas": schemas,
        "responses": responses,
        "headers": answers::headers(),
        "examples": problems::examples(),
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer", "description": token},
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "__Host-taskbell",
                "description": "The session of a browser. The name is `__Secure-taskbell` below a path prefix, and `taskbell` \
                    over plain HTTP on a loopback address.",
            },
        },
    })
}
