//! JSON that is kept as its text: an input or a result.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::fault::Fault;
#[cfg(feature = "server")]
use super::scan::Facts;
use super::scan::{Limits, scan};
use super::strings::{string_end, unescape};
use super::walk::{self, Walk};

/// How deep lists and objects may be nested in a text that is parsed.
pub const DEPTH_MAX: usize = 32;

/// A JSON value as its compact text: without white space between its tokens, and otherwise as it was written. Numbers keep
/// every digit, strings their escapes, objects the order of their members. No object has a key twice.
///
/// Two of them are equal if their texts are equal. A clone shares the text.
///
/// ```
/// # use taskbell::JsonText;
/// let text: JsonText = r#"{ "price": 1.50, "id": 123456789012345678901 }"#.parse()?;
/// assert_eq!(text.as_str(), r#"{"price":1.50,"id":123456789012345678901}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct JsonText {
    raw: Arc<RawValue>,
    depth: usize,
}

impl JsonText {
    /// The value of this text.
    ///
    /// # Errors
    /// The text is no JSON, repeats a key in an object, or is nested deeper than 32 levels.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let raw = serde_json::from_str::<Box<RawValue>>(text);
        // The scanner refuses all that `RawValue` refuses, and says where it is.
        raw.map_or_else(|_| Err(fault_of(text)), Self::of_raw)
    }

    /// The JSON of any value that `serde_json` can write.
    ///
    /// # Errors
    /// The value can't be written as JSON: a map in it has keys that are no texts.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let raw = to_raw_value(value)?;
        // What can't be scanned is counted as too deep for every limit.
        let depth = scan(raw.get(), Limits::NONE).map_or(usize::MAX, |facts| facts.depth);
        Ok(Self { raw: raw.into(), depth })
    }

    fn of_raw(raw: Box<RawValue>) -> Result<Self, Fault> {
        let facts = scan(raw.get(), Limits { depth: DEPTH_MAX, ..Limits::NONE })?;
        let raw = if facts.spaces == 0 { raw } else { raw_of(compact(raw.get(), facts.spaces))? };
        Ok(Self { raw: raw.into(), depth: facts.depth })
    }

    /// The value of a text that is a part of a scanned text. Only its depth is checked.
    #[cfg(feature = "server")]
    fn of_scanned(raw: Box<RawValue>) -> Result<Self, Fault> {
        let facts = measure(raw.get());
        if facts.depth > DEPTH_MAX {
            return Err(fault_of(raw.get()));
        }
        let raw = if facts.spaces == 0 { raw } else { raw_of(compact(raw.get(), facts.spaces))? };
        Ok(Self { raw: raw.into(), depth: facts.depth })
    }

    /// The compact text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.raw.get()
    }

    /// How deep lists and objects are nested: 0 for a scalar.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Whether some object in it has a key that begins as those by which `serde_json` marks values of its own.
    #[must_use]
    pub fn has_private_key(&self) -> bool {
        const PRIVATE: &str = "$serde_json::private::";
        let text = self.as_str();
        (text.contains(PRIVATE) || text.contains("\\u")) && has_key(text, |key| key.starts_with(PRIVATE))
    }

    /// The value as a tree. An integer beyond 64 bits, and a number with more digits than a double, becomes the nearest
    /// finite double.
    #[must_use]
    pub fn to_value(&self) -> Value {
        walk::value(&mut Walk::new(self.as_str()))
    }
}

/// Why the text can't be parsed.
fn fault_of(text: &str) -> Fault {
    let limits = Limits { depth: DEPTH_MAX, ..Limits::NONE };
    scan(text, limits).err().unwrap_or(Fault::Malformed { what: "expected value", line: 1, column: 1 })
}

fn raw_of(text: String) -> Result<Box<RawValue>, Fault> {
    RawValue::from_string(text).map_err(|error| Fault::Malformed {
        what: "expected value",
        line: error.line(),
        column: error.column(),
    })
}

/// Whether a compact text has such a key.
fn has_key(text: &str, is_wanted: impl Fn(&str) -> bool) -> bool {
    let (bytes, mut at) = (text.as_bytes(), 0);
    while let Some(quote) = text[at..].find('"') {
        let start = at + quote;
        at = string_end(bytes, start);
        if bytes.get(at) == Some(&b':') && is_wanted(&unescape(&text[start + 1..at - 1])) {
            return true;
        }
    }
    false
}

/// The depth and the white space of a scanned text.
#[cfg(feature = "server")]
fn measure(text: &str) -> Facts {
    let (bytes, mut at, mut open) = (text.as_bytes(), 0, 0_usize);
    let mut facts = Facts { depth: 0, spaces: 0 };
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'[' | b'{' => {
                open += 1;
                facts.depth = facts.depth.max(open);
            }
            b']' | b'}' => open = open.saturating_sub(1),
            b' ' | b'\t' | b'\n' | b'\r' => facts.spaces += 1,
            _ => {}
        }
        at += 1;
    }
    facts
}

/// A scanned text without its white space, of which it has so many bytes.
fn compact(text: &str, spaces: usize) -> String {
    let (bytes, mut at, mut kept) = (text.as_bytes(), 0, 0);
    let mut out = String::with_capacity(text.len().saturating_sub(spaces));
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push_str(&text[kept..at]);
                at += 1;
                kept = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(&text[kept..]);
    out
}

impl Default for JsonText {
    /// `null`.
    fn default() -> Self {
        Self { raw: RawValue::NULL.to_owned().into(), depth: 0 }
    }
}

impl From<&Value> for JsonText {
    fn from(value: &Value) -> Self {
        // A `Value` can always be written.
        Self::of(value).unwrap_or_default()
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        Self::from(&value)
    }
}

impl FromStr for JsonText {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        Self::parse(text)
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for JsonText {}

impl fmt::Debug for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for JsonText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for JsonText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw.serialize(serializer)
    }
}

/// Deserializes a value in a text that was scanned before, as the body of a request is. The value is not scanned again.
///
/// # Errors
/// The value is nested deeper than 32 levels.
#[cfg(feature = "server")]
pub fn scanned<'de, D: Deserializer<'de>>(from: D) -> Result<JsonText, D::Error> {
    Scanned::deserialize(from).map(|scanned| scanned.0)
}

/// As [`scanned`], for a value that may be absent or null.
///
/// # Errors
/// As [`scanned`].
#[cfg(feature = "server")]
pub fn scanned_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<JsonText>, D::Error> {
    Ok(Option::<Scanned>::deserialize(from)?.map(|scanned| scanned.0))
}

#[cfg(feature = "server")]
struct Scanned(JsonText);

#[cfg(feature = "server")]
impl<'de> Deserialize<'de> for Scanned {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        JsonText::of_scanned(Box::<RawValue>::deserialize(from)?).map(Self).map_err(D::Error::custom)
    }
}

/// Takes the text of the value as it stands there; a value beside JSON text is written as JSON first.
impl<'de> Deserialize<'de> for JsonText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::of_raw(Box::<RawValue>::deserialize(from)?).map_err(D::Error::custom)
    }
}
