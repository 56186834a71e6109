//! Bodies: strict JSON within its limits, or a refusal that says where it isn't.
//!
//! A body is scanned once, for what serde accepts (a repeated key) and for what no client should send (too many values), and
//! then read from its text into the type of the request.

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
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::error::{Problem, Refusal};
use super::query::Fields;
use crate::task::json::fault::{Fault, push_segment};
use crate::task::json::items;
use crate::task::json::scan::{Limits, scan};

/// The largest body, in bytes.
pub const BODY_MAX: usize = 1024 * 1024;
/// The largest body of a batch, in bytes.
pub const BATCH_MAX: usize = 16 * 1024 * 1024;
/// What a body may hold: more values than a batch of 1,000 full requests has. How deep a value may be nested is said by the
/// type that it is read into.
const LIMITS: Limits = Limits { values: 1_000_000, ..Limits::NONE };
/// A body must arrive within this time.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

/// The text of the request's body, which is not scanned yet; none where it is empty. `max` is in bytes.
///
/// # Errors
/// 400 `malformed_json` where it is not UTF-8, 408, 413 `too_large`, 415.
pub async fn body(request: &HttpRequest, payload: Payload, max: usize) -> Result<Option<String>, Problem> {
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
    String::from_utf8(bytes.into()).map(Some).map_err(|error| no_utf8(error.utf8_error()))
}

/// The text of the request's body, which is not scanned yet. The request must have a body and no query parameters.
///
/// # Errors
/// As [`body`]; 400 where there is no body; 422 where there are query parameters.
pub async fn required_body(request: &HttpRequest, payload: Payload, max: usize) -> Result<String, Problem> {
    Fields::of_query(request.query_string())?.refuse_rest()?;
    let body = body(request, payload, max).await?;
    body.ok_or_else(|| Problem::malformed_json("a body is needed"))
}

/// The body of the request as a value of this type. The request must have a body and no query parameters.
///
/// # Errors
/// As [`required_body`] and [`read`].
pub async fn read_body<T: DeserializeOwned>(request: &HttpRequest, payload: Payload, max: usize) -> Result<T, Problem> {
    read(&required_body(request, payload, max).await?)
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

/// The JSON object of these bytes as a value of this type.
///
/// # Errors
/// 400 `malformed_json` where they are not UTF-8; as [`read`].
pub fn read_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    std::str::from_utf8(bytes).map_err(no_utf8).and_then(read)
}

/// The JSON object of this text as a value of this type.
///
/// # Errors
/// 400 `malformed_json`; 422 where a key is repeated, and as [`read_scanned`].
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    scan(text, LIMITS).map_err(problem)?;
    read_scanned(text)
}

/// The items of a batch, whose body is `{"items": […]}`: the text of each, scanned, or why it is refused.
///
/// # Errors
/// 400 `malformed_json`; 422 where the body is anything else, or has too many values.
pub fn read_items(text: &str) -> Result<Vec<Result<&str, Problem>>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        #[serde(rename = "items")]
        _items: Vec<IgnoredAny>,
    }

    match items::items(text, "items", LIMITS).map_err(problem)? {
        Some(items) => Ok(items.into_iter().map(|item| item.map_err(problem)).collect()),
        // Reading it as what it isn't says why.
        None => read_scanned::<Batch>(text).map(|_| Vec::new()),
    }
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

/// The JSON object of a text that was scanned as a value of this type. A list is refused, as in [`Object`].
///
/// # Errors
/// 422 with a pointer to the invalid field.
pub fn read_scanned<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Problem::invalid_field("", "an object is needed"));
    }
    // The path to an error costs an allocation for each key that is read, so it is looked for only after an error.
    serde_json::from_str(text).or_else(|_| read_with_path(text))
}

fn read_with_path<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        // The pointer says where it is.
        let place = format!(" at line {} column {}", error.line(), error.column());
        let detail = error.to_string();
        Problem::invalid_field(pointer, detail.strip_suffix(&place).unwrap_or(&detail))
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

fn problem(fault: Fault) -> Problem {
    match fault.pointer() {
        Some(pointer) => Problem::invalid_field(pointer, fault.to_string()),
        None => Problem::malformed_json(format!("the body is no JSON: {fault}")),
    }
}

fn no_utf8(error: std::str::Utf8Error) -> Problem {
    Problem::malformed_json(format!("the body is no JSON: it is not UTF-8 at byte {}", error.valid_up_to() + 1))
}
