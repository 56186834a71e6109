//! Bodies: strict JSON within its limits, or a refusal that says where it isn't.
//!
//! A body is parsed twice: first to find what serde accepts (a repeated key, a nesting that is too deep), then into values.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{BytesMut, Payload};
use futures_util::StreamExt;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::error::{Problem, Refusal};
use super::query::Fields;
use crate::task::Invalid;

/// The largest body, in bytes.
pub const BODY_MAX: usize = 1024 * 1024;
/// The largest body of a batch, in bytes.
pub const BATCH_MAX: usize = 16 * 1024 * 1024;
/// The most values in a body: more than a batch of 1,000 full requests has; they take about 50 MB of memory.
const VALUES_MAX: usize = 1_000_000;
/// The deepest nesting.
const DEPTH_MAX: usize = 32;
/// A body must arrive within this time.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// The body of the request as JSON; none where it is empty. `max` is in bytes.
///
/// # Errors
/// 400 `malformed_json`, 408, 413 `too_large`, 415, 422 `invalid_request`.
pub async fn body(request: &HttpRequest, payload: Payload, max: usize) -> Result<Option<Value>, Problem> {
    let bytes = tokio::time::timeout(ARRIVAL_MAX, collect(payload, max))
        .await
        .map_err(|_| Problem::of_status(StatusCode::REQUEST_TIMEOUT))??;
    if bytes.is_empty() {
        return Ok(None);
    }
    let essence = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = essence.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type());
    }
    parse(&bytes).map(Some)
}

/// The body of the request as a value of this type. The request must have a body and no query parameters.
///
/// # Errors
/// As [`body`]; 400 where there is no body; 422 where a field is invalid or there are query parameters.
pub async fn read_body<T: DeserializeOwned>(request: &HttpRequest, payload: Payload, max: usize) -> Result<T, Problem> {
    read(read_json(request, payload, max).await?)
}

async fn read_json(request: &HttpRequest, payload: Payload, max: usize) -> Result<Value, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let body = body(request, payload, max).await?;
    body.ok_or_else(|| Problem::malformed_json("a body is needed"))
}

/// The items of a batch: the body is `{"items": […]}` and the request has no query parameters. The items are not read yet.
///
/// # Errors
/// As [`read_body`] of a body of at most [`BATCH_MAX`] bytes.
pub async fn read_items(request: &HttpRequest, payload: Payload) -> Result<Vec<Value>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        items: Vec<Value>,
    }

    let mut body = read_json(request, payload, BATCH_MAX).await?;
    if let Some(fields) = body.as_object_mut().filter(|fields| fields.len() == 1)
        && let Some(Value::Array(items)) = fields.get_mut("items")
    {
        return Ok(std::mem::take(items));
    }
    read::<Batch>(body).map(|batch| batch.items)
}

async fn collect(mut payload: Payload, max: usize) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| Problem::new(Refusal::BadRequest, format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > max {
            return Err(Problem::too_large(format!("a body has at most {max} bytes here")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The bytes as JSON.
///
/// # Errors
/// 400 `malformed_json`; 422 where a key is repeated or the nesting is too deep.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let check = StrictWalk { path: &mut String::new(), values: &mut 0, depth: 0, found: &mut found };
    let syntax = check.deserialize(&mut reader).and_then(|()| reader.end());
    if let Some(first) = found.into_iter().next() {
        return Err(Problem::invalid(vec![first]));
    }
    syntax
        .and_then(|()| serde_json::from_slice(bytes))
        .map_err(|error| Problem::malformed_json(format!("the body is no JSON: {error}")))
}

/// A JSON object inside a body. Unlike serde's structs it refuses a list, whose items serde would read as the fields in their
/// order.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: DeserializeOwned> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

/// The JSON object as a value of this type. A list is refused, as in [`Object`].
///
/// # Errors
/// 422 with a pointer to the invalid field.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    if !value.is_object() {
        return Err(Problem::invalid_field("", "an object is needed"));
    }
    // The path to an error costs an allocation for each key that is read, so it is looked for only after an error.
    T::deserialize(&value).or_else(|_| read_with_path(value))
}

fn read_with_path<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
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

/// BLAKE3 of the value, in hexadecimal. The order of keys doesn't change it.
#[must_use]
pub fn digest(value: &Value) -> String {
    let mut text = String::new();
    write_canonical(value, &mut text);
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Writes compact JSON with sorted keys. `serde_json` doesn't sort them where an embedding program turns on its feature
/// `preserve_order`, and recorded hashes must be the same in every build.
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

/// Walks the text and records the first violation that parsing into a `Value` would accept.
struct StrictWalk<'a> {
    path: &'a mut String,
    /// Values so far: each takes at least 32 bytes of memory, however short its text.
    values: &'a mut usize,
    depth: usize,
    found: &'a mut Vec<Invalid>,
}

impl StrictWalk<'_> {
    fn enter(&mut self) -> bool {
        *self.values += 1;
        if *self.values > VALUES_MAX {
            self.found.push(Invalid::new(self.path.clone(), format!("more than {VALUES_MAX} values in one body")));
        } else if self.depth >= DEPTH_MAX {
            self.found.push(Invalid::new(self.path.clone(), format!("nested deeper than {DEPTH_MAX}")));
        }
        self.found.is_empty()
    }

    fn inner<'b>(&'b mut self, key: &str) -> StrictWalk<'b> {
        push_segment(self.path, key);
        StrictWalk { path: self.path, values: self.values, depth: self.depth + 1, found: self.found }
    }
}

impl<'de> DeserializeSeed<'de> for StrictWalk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictWalk<'_> {
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
        let length = self.path.len();
        let mut index = 0usize;
        while self.enter() && items.next_element_seed(self.inner(&index.to_string()))?.is_some() {
            self.path.truncate(length);
            index += 1;
        }
        self.stop()
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        let length = self.path.len();
        let mut keys = HashSet::new();
        while self.enter() {
            let Some(key) = entries.next_key::<String>()? else { break };
            let is_repeated = keys.contains(&key);
            let inner = self.inner(&key);
            if is_repeated {
                inner.found.push(Invalid::new(inner.path.clone(), "this key stands here twice"));
                break;
            }
            entries.next_value_seed(inner)?;
            self.path.truncate(length);
            keys.insert(key);
        }
        self.stop()
    }
}

impl StrictWalk<'_> {
    /// Ends the walk after a violation. The caller reports the violation and not the text of this error.
    fn stop<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.found.is_empty() { Ok(()) } else { Err(E::custom("refused")) }
    }
}
