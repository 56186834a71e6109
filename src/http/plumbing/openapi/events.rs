//! The schemas of recorded events: the files in `events/`.

use serde_json::{Value, json};

use super::schema::redacted;

/// The schemas of the types of events, by the name of the type.
macro_rules! events {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../events/", $name, "/v1.schema.json")))),+]
    };
}

const ENVELOPE: &str = include_str!("../../../../events/envelope.v1.schema.json");
const EVENTS: &[(&str, &str)] = events![
    "Created",
    "Queued",
    "Started",
    "CancelRequested",
    "CancelAcknowledged",
    "CancelEscalated",
    "AttemptFailed",
    "Released",
    "OutputKept",
    "Completed",
    "Retried",
    "Seen",
    "Paused",
    "Resumed",
    "ScheduleCreated",
    "ScheduleRemoved",
    "TokenCreated",
    "TokenRevoked",
    "SessionOpened",
    "SessionEnded",
];

/// The names of the types.
#[must_use]
pub fn types() -> Vec<&'static str> {
    EVENTS.iter().map(|(name, _)| *name).collect()
}

/// The schemas with their names: `RecordedEvent`, and the data of each type.
#[must_use]
pub fn schemas() -> Vec<(String, Value)> {
    let of_type = |(name, text): &(&str, &str)| (component(name), nullable_if_redacted(name, without_id(text)));
    EVENTS.iter().map(of_type).chain([("RecordedEvent".to_owned(), recorded())]).collect()
}

fn component(name: &str) -> String {
    format!("{name}Data")
}

fn recorded() -> Value {
    let mut recorded = without_id(ENVELOPE);
    let data = |(name, _): &(&str, &str)| {
        let reference = json!({"$ref": format!("#/components/schemas/{}", component(name))});
        json!({"if": {"properties": {"type": {"const": name}}}, "then": {"properties": {"data": reference}}})
    };
    recorded["allOf"] = EVENTS.iter().map(data).collect();
    recorded["properties"]["redacted"] = redacted().into_json();
    recorded["properties"]["type"]["enum"] = json!(types());
    recorded
}

/// Output is text in an event, and null for a caller who may not see it.
fn nullable_if_redacted(name: &str, mut data: Value) -> Value {
    if name == "OutputKept" {
        data["properties"]["tail"]["type"] = json!(["string", "null"]);
    }
    data
}

/// The schema as a component, which has no id of its own.
fn without_id(text: &str) -> Value {
    let mut schema: Value = serde_json::from_str(text).unwrap_or_default();
    if let Some(keywords) = schema.as_object_mut() {
        keywords.remove("$schema");
        keywords.remove("$id");
    }
    schema
}
