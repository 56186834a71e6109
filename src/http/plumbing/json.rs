//! Reads request bodies as strict JSON within limits. A refusal has a pointer to the invalid value.
//!
//! A body is parsed twice. The first pass finds violations that serde would accept: a repeated key, a nesting that is
//! too deep, too many values. The second pass makes the values.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::body;
pub use super::body::{BATCH_MAX, BODY_MAX};
use super::error::Problem;
use crate::task::Invalid;

/// The most values in a body. A batch of 1,000 requests that use all fields has fewer. This many values take about 50 MB of
/// memory.
const VALUES_MAX: usize = 1_000_000;
/// The deepest nesting.
const DEPTH_MAX: usize = 32;

/// Reads the body of the request as JSON; `None` if the body is empty. `max` is the largest accepted body in bytes.
///
/// # Errors
/// 400 `malformed_json`, 408, 413 `too_large`, 415, 422 `invalid_request`.
pub async fn read_optional(request: &HttpRequest, payload: Payload, max: usize) -> Result<Option<Value>, Problem> {
    body::receive_optional(request, payload, max, parse).await
}

/// Reads the body of the request as a value of type `T`. The request must have a body and no query parameters.
///
/// # Errors
/// As [`read_optional`]; 400 if there is no body; 422 if a field is invalid or there are query parameters.
pub async fn read_body<T>(request: &HttpRequest, payload: Payload, max: usize) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    body::receive(request, payload, max, |bytes| parse(bytes).and_then(decode)).await
}

/// Reads the items of a batch, whose body is `{"items": […]}`. The request must have no query parameters. The items are not
/// decoded.
///
/// # Errors
/// As [`read_body`], with [`BATCH_MAX`] as the largest body.
pub async fn read_items(request: &HttpRequest, payload: Payload) -> Result<Vec<Value>, Problem> {
    body::receive(request, payload, BATCH_MAX, |bytes| parse(bytes).and_then(items)).await
}

fn items(mut body: Value) -> Result<Vec<Value>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        items: Vec<Value>,
    }

    if let Some(fields) = body.as_object_mut().filter(|fields| fields.len() == 1)
        && let Some(Value::Array(items)) = fields.get_mut("items")
    {
        return Ok(std::mem::take(items));
    }
    decode::<Batch>(body).map(|batch| batch.items)
}

/// Parses strict JSON.
///
/// # Errors
/// 400 `malformed_json`; 422 if a key is repeated, the nesting is too deep, or there are too many values.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut violations = Vec::new();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let check = StrictCheck { pointer: &mut String::new(), values: &mut 0, depth: 0, violations: &mut violations };
    let syntax = check.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Some(first) = violations.into_iter().next() {
        return Err(Problem::invalid(vec![first]));
    }
    syntax
        .and_then(|()| serde_json::from_slice(bytes))
        .map_err(|error| Problem::malformed_json(format!("the body is no JSON: {error}")))
}

/// A JSON object inside a body. It refuses a list. A plain serde struct accepts a list and reads its items as the fields, in
/// the order of their declaration.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Decodes a JSON object as a value of type `T`. A list is refused, as by [`Object`].
///
/// # Errors
/// 422 with a pointer to the invalid field.
pub fn decode<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    if !value.is_object() {
        return Err(Problem::invalid_field("", "an object is needed"));
    }
    // To track the path of an error costs one allocation for each key. So the value is decoded without tracking, and only
    // after an error it is decoded again with tracking.
    T::deserialize(&value).or_else(|_| decode_with_path(value))
}

fn decode_with_path<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let pointer = pointer(error.path());
        Problem::invalid_field(pointer, error.into_inner().to_string())
    })
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push_segment(&mut pointer, &index.to_string()),
            Segment::Map { key } | Segment::Enum { variant: key } => push_segment(&mut pointer, key),
            Segment::Unknown => {}
        }
    }
    pointer
}

fn push_segment(pointer: &mut String, key: &str) {
    pointer.push('/');
    if key.contains(['~', '/']) {
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    } else {
        pointer.push_str(key);
    }
}

/// Returns the BLAKE3 hash of the value, in hexadecimal. The order of keys doesn't change the hash.
#[must_use]
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Writes compact JSON with sorted keys. `serde_json` doesn't sort keys if an embedding program enables its feature
/// `preserve_order`, but recorded hashes must be the same in every build.
fn write_canonical(value: &Value, text: &mut String) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => text.push_str(&value.to_string()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push(if index == 0 { '[' } else { ',' });
                write_canonical(item, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<&String, &Value> = fields.iter().collect();
            for (index, (key, item)) in sorted.iter().enumerate() {
                text.push(if index == 0 { '{' } else { ',' });
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                write_canonical(item, text);
            }
            text.push_str(if fields.is_empty() { "{}" } else { "}" });
        }
    }
}

/// Reads the text and records the first violation that parsing into a `Value` would accept.
struct StrictCheck<'a> {
    /// The pointer to the value that is read now.
    pointer: &'a mut String,
    /// The number of values so far. Even a short value takes at least 32 bytes of memory.
    values: &'a mut usize,
    depth: usize,
    violations: &'a mut Vec<Invalid>,
}

impl StrictCheck<'_> {
    /// Counts a value and checks the limits. Returns whether the check may continue.
    fn count_value(&mut self) -> bool {
        *self.values += 1;
        if *self.values > VALUES_MAX {
            self.violations
                .push(Invalid::new(self.pointer.clone(), format!("more than {VALUES_MAX} values in one body")));
        } else if self.depth >= DEPTH_MAX {
            self.violations.push(Invalid::new(self.pointer.clone(), format!("nested deeper than {DEPTH_MAX}")));
        }
        self.violations.is_empty()
    }

    /// Makes the check of the value below this key or index.
    fn child<'b>(&'b mut self, key: &str) -> StrictCheck<'b> {
        push_segment(self.pointer, key);
        StrictCheck { pointer: self.pointer, values: self.values, depth: self.depth + 1, violations: self.violations }
    }
}

impl<'de> DeserializeSeed<'de> for StrictCheck<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictCheck<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        let length = self.pointer.len();
        let mut index = 0usize;
        while self.count_value() && items.next_element_seed(self.child(&index.to_string()))?.is_some() {
            self.pointer.truncate(length);
            index += 1;
        }
        self.end_after_violation()
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let length = self.pointer.len();
        let mut keys = HashSet::new();
        while self.count_value() {
            let Some(key) = entries.next_key::<String>()? else { break };
            let is_repeated = keys.contains(&key);
            let child = self.child(&key);
            if is_repeated {
                child.violations.push(Invalid::new(child.pointer.clone(), "this key stands here twice"));
                break;
            }
            entries.next_value_seed(child)?;
            self.pointer.truncate(length);
            keys.insert(key);
        }
        self.end_after_violation()
    }
}

impl StrictCheck<'_> {
    /// Returns an error after a violation, which ends the check. The caller reports the violation and not this error.
    fn end_after_violation<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.violations.is_empty() { Ok(()) } else { Err(E::custom("refused")) }
    }
}
