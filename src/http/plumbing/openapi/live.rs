//! The messages on the websocket `GET /v1/live`.

use serde_json::json;

use super::schema::{
    Object, Schema, boolean, integer, list, named, object, one_of, position, schema, uuid, written_text, written_time,
};
use super::tasks::{codes, counters};

/// The schemas and their names.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    let server =
        ["Hello", "Snapshot", "CountersChange", "TasksChange", "TasksChanged", "Beat", "Subscribed", "LiveProblem"];
    let client = ["Subscribe", "Unsubscribe", "SeenMessage", "Resync"];
    vec![
        ("LiveServerMessage", either(&server).about("A message from the server: one JSON object in a text frame.")),
        ("Hello", hello()),
        ("Snapshot", message("snapshot", counters()).about("The counts. They need no earlier message.")),
        ("CountersChange", counters_change()),
        ("TasksChange", tasks_change()),
        (
            "TasksChanged",
            message("tasks_changed", at_position())
                .about("More tasks have changed than a message lists: request the page again."),
        ),
        ("Beat", beat()),
        (
            "Subscribed",
            message("subscribed", at_position())
                .about("Confirms `subscribe`. Then request the page with this `min_position`."),
        ),
        ("LiveProblem", problem()),
        (
            "LiveClientMessage",
            either(&client).about("A message from the client: one JSON object in a text frame, at most 16 KiB."),
        ),
        ("Subscribe", subscribe()),
        ("Unsubscribe", message("unsubscribe", object()).about("Ends the subscription.")),
        ("SeenMessage", message("seen", at_position()).about("The caller has seen the bell up to this position.")),
        ("Resync", message("resync", object()).about("Requests a `snapshot`.")),
    ]
}

fn either(names: &[&str]) -> Schema {
    schema(json!({"oneOf": names.iter().map(|name| named(name).into_json()).collect::<Vec<_>>()}))
}

fn message(name: &str, fields: Object) -> Schema {
    fields.field("type", schema(json!({"const": name}))).close()
}

fn at_position() -> Object {
    object().field("position", position())
}

fn stale_since() -> Schema {
    written_time().about("Only while the server can't reach its cluster: since this time events may be missing.")
}

fn hello() -> Schema {
    let fields = at_position()
        .field("epoch", uuid().about("Another value means that the log was restored from another copy."))
        .field("time", written_time())
        .optional("stale_since", stale_since());
    message("hello", fields).about("The first message.")
}

fn counters_change() -> Schema {
    let previous = position()
        .about("The position of the counts that were sent before. If the client has another one, it sends `resync`.");
    message("counters", counters().field("previous", previous)).about("The counts after a change.")
}

fn tasks_change() -> Schema {
    let tasks = list(named("Task"), 1, None);
    message("tasks", at_position().field("items", tasks))
        .about("Tasks that match the subscription before or after the change.")
}

fn beat() -> Schema {
    let fields = at_position().field("time", written_time()).optional("stale_since", stale_since());
    message("beat", fields).about("At least every 15 seconds. It doesn't change the client's position.")
}

fn problem() -> Schema {
    let fields = object()
        .field("status", integer(400, 599))
        .field("code", one_of(codes()))
        .field("detail", written_text())
        .field("retryable", boolean())
        .field("errors", list(named("InvalidField"), 0, None));
    message("problem", fields)
        .about("The client's message is refused. After the third one the server closes the socket with 1008.")
}

fn subscribe() -> Schema {
    let filter = named("TaskFilter").into_json();
    let ids = object().field("ids", list(uuid(), 0, 200)).close().into_json();
    let filter =
        schema(json!({"anyOf": [filter, ids]})).about("The tasks of a filter, or up to 200 tasks by their ids.");
    message("subscribe", object().field("filter", filter)).about("Replaces the subscription.")
}
