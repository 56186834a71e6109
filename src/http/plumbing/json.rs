//! Reads request bodies as strict JSON within limits. A refusal has a pointer to the invalid value.
//!
//! A body is scanned once. The scan refuses what serde alone would accept although it is invalid here: a repeated key, or too
//! many values. Then the body is decoded from its text into the type of the request.

use std::fmt;
use std::marker::PhantomData;

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokio::sync::mpsc::UnboundedSender;

use super::body;
pub use super::body::BodyKind;
use super::error::Problem;
use crate::task::json::fault::{Fault, push_segment};
use crate::task::json::items;
use crate::task::json::scan::{Limits, scan};

/// The maximum number of values in a body. A batch of 1,000 requests that use all fields has fewer. The depth of a value is limited by the
/// type that the value is decoded into.
const LIMITS: Limits = Limits { values: 1_000_000, ..Limits::NONE };

/// Reads the body of the request as a value of type `T`; `None` if the body is empty.
///
/// # Errors
/// 400 `malformed_json`, 408, 413 `too_large`, 415, 422 `invalid_request`.
pub async fn read_optional<T>(request: &HttpRequest, payload: Payload, kind: BodyKind) -> Result<Option<T>, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    body::receive_optional(request, payload, kind, parse).await
}

/// Reads the body of the request as a value of type `T`. The request must have a body and no query parameters.
///
/// # Errors
/// As [`read_optional`]; 400 if there is no body; 422 if there are query parameters.
pub async fn read_body<T>(request: &HttpRequest, payload: Payload, kind: BodyKind) -> Result<T, Problem>
where
    T: DeserializeOwned + Send + 'static,
{
    body::receive(request, payload, kind, parse).await
}

/// Reads the items of a batch, whose body is `{"items": […]}`, with 1 to `items_max` items. The request must have no query
/// parameters. `read` makes a value from the text of an item. A problem of one item stands in its place.
///
/// The items are sent in chunks of at most `chunk`, while the later ones are read, so that the receiver can begin with the first
/// ones. Nothing is sent before the whole body was scanned: if the body as a whole is refused, no item is sent.
///
/// # Errors
/// As [`read_body`], with [`BodyKind::Many`]; 422 if the number of items is wrong.
pub async fn send_items<T: Send + 'static>(
    request: &HttpRequest,
    payload: Payload,
    (items_max, chunk): (usize, usize),
    read: fn(&str) -> Result<T, Problem>,
    chunks: UnboundedSender<Vec<Result<T, Problem>>>,
) -> Result<(), Problem> {
    let parse = move |bytes: &[u8]| {
        let items = split_items(as_text(bytes)?, items_max)?;
        let mut values = items.into_iter().map(|item| item.map_err(problem_of).and_then(read));
        loop {
            let values: Vec<_> = values.by_ref().take(chunk).collect();
            // An error says that the request was dropped.
            if values.is_empty() || chunks.send(values).is_err() {
                return Ok(());
            }
        }
    };
    body::receive(request, payload, BodyKind::Many, parse).await
}

/// The texts of the 1 to `items_max` items of a batch.
fn split_items(text: &str, items_max: usize) -> Result<Vec<Result<&str, Fault>>, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Batch {
        #[serde(rename = "items")]
        _items: Vec<IgnoredAny>,
    }

    let items = match items::items(text, "items", Limits { items: items_max, ..LIMITS }).map_err(problem_of)? {
        Some(items) => items,
        // The decoder says what the body lacks.
        None => decode::<Batch>(text).map(|_| Vec::new())?,
    };
    if !(1..=items_max).contains(&items.len()) {
        return Err(Problem::invalid_field("/items", format!("1 to {items_max} items")));
    }
    Ok(items)
}

/// Parses a JSON object as a value of type `T`.
///
/// # Errors
/// 400 `malformed_json`; 422 if a key is repeated, there are too many values, or a field is invalid.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    parse_text(as_text(bytes)?)
}

/// Parses a JSON object as a value of type `T`.
///
/// # Errors
/// As [`parse`].
pub fn parse_text<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    scan(text, LIMITS).map_err(problem_of)?;
    decode(text)
}

/// The bytes as text.
///
/// # Errors
/// 400 `malformed_json` if they are not UTF-8.
pub fn as_text(bytes: &[u8]) -> Result<&str, Problem> {
    std::str::from_utf8(bytes).map_err(|error| {
        let byte = error.valid_up_to() + 1;
        Problem::malformed_json(format!("the body is not valid JSON: it is not UTF-8 at byte {byte}"))
    })
}

/// A JSON object inside a body. It refuses a list. A plain serde struct accepts a list and reads its items as the fields, in
/// the order of their declaration.
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

/// A list of at most `MAX` items. The rest of a longer list is not read.
#[derive(Debug)]
pub struct AtMost<const MAX: usize, T>(pub Vec<T>);

impl<'de, const MAX: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<MAX, T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ListVisitor<const MAX: usize, T>(PhantomData<T>);

        impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for ListVisitor<MAX, T> {
            type Value = AtMost<MAX, T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AtMost<MAX, T>, A::Error> {
                let mut items = Vec::new();
                while items.len() < MAX {
                    let Some(item) = list.next_element()? else { return Ok(AtMost(items)) };
                    items.push(item);
                }
                match list.next_element::<IgnoredAny>()? {
                    Some(_) => Err(serde::de::Error::custom(format_args!("at most {MAX}"))),
                    None => Ok(AtMost(items)),
                }
            }
        }

        from.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// Decodes a JSON object, whose text was scanned, as a value of type `T`. A list is refused, as by [`Object`].
///
/// # Errors
/// 422 with a pointer to the invalid field.
pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Problem::invalid_field("", "an object is needed"));
    }
    // To track the path of an error costs one allocation for each key. So the text is decoded without tracking, and only
    // after an error it is decoded again with tracking.
    serde_json::from_str(text).or_else(|_| decode_with_path(text))
}

fn decode_with_path<T: DeserializeOwned>(text: &str) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        // The pointer already says where the error is.
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

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn problem_of(fault: Fault) -> Problem {
    match fault.pointer() {
        Some(pointer) => Problem::invalid_field(pointer, fault.to_string()),
        None => Problem::malformed_json(format!("the body is not valid JSON: {fault}")),
    }
}
