//! JSON schemas (draft 2020-12) for the values of requests and responses.
//!
//! JSON Schema counts the characters of a text. Where the server counts bytes of UTF-8, the keyword `x-max-bytes` has the limit,
//! and `maxLength` is the same number.

use serde_json::{Map, Value, json};

use crate::task::limits::{LABEL_MAX, NAME_MAX, OWNER_MAX, TEXT_MAX, WORKER_MAX};

/// The text of an id: a UUID in lower case with hyphens.
pub const UUID: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$";
/// One line that is not blank.
const LINE: &str = concat!(
    "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*",
    "[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]",
    "[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]*$"
);
/// As [`LINE`], without commas and without characters that change the direction of the text.
const OWNER: &str = concat!(
    "^[^\\u0000-\\u001f,\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]*",
    "[^\\u0000-\\u0020,\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028-\\u202f\\u205f\\u2066-\\u2069\\u3000]",
    "[^\\u0000-\\u001f,\\u007f-\\u009f\\u2028-\\u202e\\u2066-\\u2069]*$"
);
/// A time as the server writes it.
const WRITTEN_TIME: &str = "^-?[0-9]{4,6}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$";

/// A JSON schema.
#[derive(Clone, Debug)]
pub struct Schema(Value);

impl Schema {
    /// The schema as JSON.
    #[must_use]
    pub fn into_json(self) -> Value {
        self.0
    }

    /// Adds a keyword.
    #[must_use]
    pub fn with(mut self, keyword: &str, value: impl Into<Value>) -> Self {
        self.0[keyword] = value.into();
        self
    }

    /// Adds the description, in Markdown.
    #[must_use]
    pub fn about(self, description: &str) -> Self {
        self.with("description", description)
    }

    /// Refuses texts in which this pattern is found.
    #[must_use]
    pub fn except(self, pattern: &str) -> Self {
        self.with("not", json!({"type": "string", "pattern": pattern}))
    }

    /// Also allows null.
    #[must_use]
    pub fn or_null(self) -> Self {
        let Value::Object(mut keywords) = self.0 else { return self };
        if keywords.contains_key("$ref") {
            let about = keywords.remove("description");
            let either = Self(json!({"anyOf": [keywords, {"type": "null"}]}));
            return about.map_or(either.clone(), |about| either.with("description", about));
        }
        if let Some(Value::Array(names)) = keywords.get_mut("enum") {
            names.push(Value::Null);
        }
        if let Some(kind) = keywords.remove("type") {
            keywords.insert("type".to_owned(), json!([kind, "null"]));
        }
        Self(Value::Object(keywords))
    }
}

/// A schema of this JSON.
#[must_use]
pub const fn schema(keywords: Value) -> Schema {
    Schema(keywords)
}

/// The schema with this name among the document's components.
#[must_use]
pub fn named(name: &str) -> Schema {
    Schema(json!({"$ref": format!("#/components/schemas/{name}")}))
}

/// Any JSON value.
#[must_use]
pub fn any() -> Schema {
    Schema(json!({}))
}

/// `true` or `false`.
#[must_use]
pub fn boolean() -> Schema {
    Schema(json!({"type": "boolean"}))
}

/// A whole number from `min` to `max`.
#[must_use]
pub fn integer(min: impl Into<Value>, max: impl Into<Value>) -> Schema {
    Schema(json!({"type": "integer", "minimum": min.into(), "maximum": max.into()}))
}

/// A whole number from 0.
#[must_use]
pub fn count() -> Schema {
    Schema(json!({"type": "integer", "minimum": 0}))
}

/// A position in the log.
#[must_use]
pub fn position() -> Schema {
    integer(0, u64::MAX)
}

/// A number from `min` to `max`.
#[must_use]
pub fn number(min: f64, max: f64) -> Schema {
    Schema(json!({"type": "number", "minimum": min, "maximum": max}))
}

/// One of these texts.
pub fn one_of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Schema {
    Schema(json!({"type": "string", "enum": texts.into_iter().collect::<Vec<_>>()}))
}

/// Any text of at most `max` bytes.
#[must_use]
pub fn text(max: usize) -> Schema {
    Schema(json!({"type": "string", "maxLength": max, "x-max-bytes": max}))
}

/// Any text that the server writes.
#[must_use]
pub fn written_text() -> Schema {
    Schema(json!({"type": "string"}))
}

/// A text of this form.
#[must_use]
pub fn pattern(pattern: &str) -> Schema {
    Schema(json!({"type": "string", "pattern": pattern}))
}

/// One line of 1 to `max` bytes, without control characters.
#[must_use]
pub fn line(max: usize) -> Schema {
    pattern(LINE).with("minLength", 1).with("maxLength", max).with("x-max-bytes", max)
}

/// The name of a kind or a queue.
#[must_use]
pub fn name() -> Schema {
    pattern(&format!("^[a-z0-9._-]{{1,{NAME_MAX}}}$"))
}

/// The name of a kind or a queue that a request may use.
#[must_use]
pub fn free_name() -> Schema {
    name().except("^taskbell\\.")
}

/// The name of an owner.
#[must_use]
pub fn owner() -> Schema {
    pattern(OWNER).with("minLength", 1).with("maxLength", OWNER_MAX).except("^\\*$")
}

/// The subject of a new token or session.
#[must_use]
pub fn subject() -> Schema {
    owner().except("^(\\*$|system$|local$|local/)")
}

/// Whose tasks: one owner, or `*` for everyone.
#[must_use]
pub fn owner_or_everyone() -> Schema {
    schema(json!({"anyOf": [owner().into_json(), {"const": "*"}]}))
}

/// Whose tasks: a list of at most `max` owners, or of `*` alone for everyone.
#[must_use]
pub fn owners(max: usize) -> Schema {
    let alone_or_owners = json!([{"maxItems": 1}, {"items": {"not": {"const": "*"}}}]);
    list(owner_or_everyone(), 1, max).with("anyOf", alone_or_owners)
}

/// The name of a worker in another process.
#[must_use]
pub fn worker() -> Schema {
    pattern(LINE).with("minLength", 1).with("maxLength", WORKER_MAX).except("^local/")
}

/// A reason, for people.
#[must_use]
pub fn reason() -> Schema {
    text(TEXT_MAX).or_null().about("Why, for people. At most 1024 bytes.")
}

/// A label as `key:value`.
#[must_use]
pub fn label() -> Schema {
    let key = LINE.replace("[^", "[^:").replace('$', ":");
    let lengths = format!("^[^:]{{1,{LABEL_MAX}}}:.{{1,{LABEL_MAX}}}$");
    pattern(&(key + &LINE[1..])).with("allOf", json!([{"pattern": lengths}]))
}

/// The labels of a task.
#[must_use]
pub fn labels(max: usize) -> Schema {
    let key = line(LABEL_MAX).except(":").into_json();
    schema(json!({
        "type": "object",
        "maxProperties": max,
        "propertyNames": key,
        "additionalProperties": line(LABEL_MAX).into_json(),
    }))
}

/// An id.
#[must_use]
pub fn uuid() -> Schema {
    pattern(UUID).with("format", "uuid")
}

/// A time that a client sends.
#[must_use]
pub fn time() -> Schema {
    Schema(json!({"type": "string", "format": "date-time"}))
}

/// A time that the server writes.
#[must_use]
pub fn written_time() -> Schema {
    pattern(WRITTEN_TIME)
}

/// A list of at least `min` items.
#[must_use]
pub fn list(item: Schema, min: usize, max: impl Into<Option<usize>>) -> Schema {
    let list = Schema(json!({"type": "array", "items": item.into_json(), "minItems": min}));
    max.into().map_or(list.clone(), |max| list.with("maxItems", max))
}

/// The field `redacted` of a response.
#[must_use]
pub fn redacted() -> Schema {
    list(written_text(), 1, None)
        .about("JSON pointers to the values that the caller's role may not see; they are null.")
}

/// An object without other fields than those that are added.
#[derive(Clone, Debug, Default)]
pub struct Object {
    properties: Map<String, Value>,
    required: Vec<String>,
}

/// An object without fields.
#[must_use]
pub fn object() -> Object {
    Object::default()
}

impl Object {
    /// Adds a field that is always there.
    #[must_use]
    pub fn field(mut self, name: &str, schema: Schema) -> Self {
        self.required.push(name.to_owned());
        self.optional(name, schema)
    }

    /// Adds a field that may be absent.
    #[must_use]
    pub fn optional(mut self, name: &str, schema: Schema) -> Self {
        self.properties.insert(name.to_owned(), schema.into_json());
        self
    }

    /// Makes the schema.
    #[must_use]
    pub fn close(self) -> Schema {
        let object = Schema(json!({"type": "object", "additionalProperties": false, "properties": self.properties}));
        if self.required.is_empty() { object } else { object.with("required", self.required) }
    }
}
