//! Reads a text that was scanned, token by token.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::strings::{string_end, unescape};

/// One token of a scanned text.
#[derive(Clone, Copy, Debug)]
pub(super) enum Token<'t> {
    OpenList,
    OpenObject,
    /// The inside of a string.
    Text(&'t str),
    /// A number, `true`, `false` or `null`.
    Word(&'t str),
}

/// A place in a scanned text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Walk<'t> {
    pub const fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next token. In an object, keys and values take turns.
    pub fn token(&mut self) -> Token<'t> {
        self.skip_between();
        let (bytes, start) = (self.text.as_bytes(), self.at);
        match bytes.get(start) {
            Some(b'[') => {
                self.at += 1;
                Token::OpenList
            }
            Some(b'{') => {
                self.at += 1;
                Token::OpenObject
            }
            Some(b'"') => {
                self.at = string_end(bytes, start);
                Token::Text(self.text.get(start + 1..self.at - 1).unwrap_or_default())
            }
            _ => {
                let is_over = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r');
                self.at = bytes[start..].iter().position(is_over).map_or(bytes.len(), |length| start + length);
                Token::Word(&self.text[start..self.at])
            }
        }
    }

    /// The next key; none at the end of the object, which is then left.
    pub fn key(&mut self) -> Option<Cow<'t, str>> {
        if self.ends() {
            return None;
        }
        match self.token() {
            Token::Text(raw) => Some(unescape(raw)),
            Token::OpenList | Token::OpenObject | Token::Word(_) => None,
        }
    }

    /// Whether the list or object ends here; then it is left.
    pub fn ends(&mut self) -> bool {
        self.skip_between();
        let is_end = matches!(self.text.as_bytes().get(self.at), Some(b']' | b'}') | None);
        self.at += usize::from(is_end);
        is_end
    }

    fn skip_between(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r' | b',' | b':') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }
}

/// The scanned text as a value. No key has a meaning in it. Numbers are those of `serde_json`: integers of 64 bits, and
/// otherwise the nearest finite double.
pub(super) fn value(walk: &mut Walk<'_>) -> Value {
    match walk.token() {
        Token::Text(raw) => Value::String(unescape(raw).into_owned()),
        Token::Word("null") => Value::Null,
        Token::Word("true") => Value::Bool(true),
        Token::Word("false") => Value::Bool(false),
        Token::Word(number) => number_value(number),
        Token::OpenList => {
            let mut items = Vec::new();
            while !walk.ends() {
                items.push(value(walk));
            }
            Value::Array(items)
        }
        Token::OpenObject => {
            let mut fields = Map::new();
            while let Some(key) = walk.key() {
                fields.insert(key.into_owned(), value(walk));
            }
            Value::Object(fields)
        }
    }
}

/// A number as `serde_json` holds it without its feature `arbitrary_precision`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Positive(u64),
    Negative(i64),
    /// May be infinite.
    Float(f64),
}

/// The nearest number. The integer -0 is a float, as in `serde_json`.
pub(super) fn nearest(text: &str) -> Number {
    if let Ok(number) = text.parse() {
        return Number::Positive(number);
    }
    match text.parse() {
        Ok(number @ ..0) => Number::Negative(number),
        _ => Number::Float(text.parse().unwrap_or_default()),
    }
}

fn number_value(text: &str) -> Value {
    match nearest(text) {
        Number::Positive(number) => number.into(),
        Number::Negative(number) => number.into(),
        Number::Float(number) => number.clamp(f64::MIN, f64::MAX).into(),
    }
}
