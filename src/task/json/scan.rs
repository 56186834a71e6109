//! The strict scanner: one pass over the text, without recursion. It checks the grammar of RFC 8259, that no object has a key
//! twice, and the limits, and it knows at each moment where in the text it is.

use std::borrow::Cow;

use super::fault::{Fault, push_segment};
use super::strings::{is_high, is_low, plain_end, unescape};

/// The limits of a text. The scan checks them in addition to the grammar.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How deep lists and objects may be nested.
    pub depth: usize,
    /// How many values there may be in all.
    pub values: usize,
    /// How many items of a list are returned. One more stands for all that follow.
    pub items: usize,
}

impl Limits {
    /// No limits.
    pub const NONE: Self = Self { depth: usize::MAX, values: usize::MAX, items: usize::MAX };
}

/// What a scan has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The deepest nesting: 0 for a scalar.
    pub depth: usize,
    /// Bytes of white space outside of strings.
    pub spaces: usize,
}

/// Checks that the text is one JSON value within the limits.
///
/// # Errors
/// The first [`Fault`] in the text. A repeated key is reported only at the end of its object. So of several objects with
/// repeated keys, the one that ends first counts.
pub fn scan(text: &str, limits: Limits) -> Result<Facts, Fault> {
    let mut scanner = Scanner::new(text, limits);
    scanner.begin()?;
    while scanner.depth() > 0 {
        scanner.step()?;
        scanner.take_repeated().map_or(Ok(()), Err)?;
    }
    scanner.end()
}

/// A scan on its way through the text.
pub(super) struct Scanner<'t> {
    text: &'t str,
    at: usize,
    /// Where the value begins that was begun last.
    value_at: usize,
    limits: Limits,
    values: usize,
    facts: Facts,
    /// The lists and objects that are open, the outermost first.
    open: Vec<Open>,
    /// The keys so far of the open objects, the outermost object first.
    keys: Vec<Key<'t>>,
    repeated: Option<Fault>,
    /// How many values the list or object had that was closed last.
    closed_count: usize,
    /// Pointers begin inside of so many open lists and objects.
    pub pointers_from: usize,
}

struct Open {
    is_list: bool,
    /// Values so far.
    count: usize,
    /// How many keys there were before its own.
    keys_before: usize,
}

/// A key, and its place in the text.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key<'t> {
    name: Cow<'t, str>,
    at: usize,
}

impl<'t> Scanner<'t> {
    pub fn new(text: &'t str, limits: Limits) -> Self {
        Self {
            text,
            at: 0,
            value_at: 0,
            limits,
            values: 0,
            facts: Facts { depth: 0, spaces: 0 },
            open: Vec::with_capacity(8),
            keys: Vec::with_capacity(16),
            repeated: None,
            closed_count: 0,
            pointers_from: 0,
        }
    }

    /// How many lists and objects are open.
    pub const fn depth(&self) -> usize {
        self.open.len()
    }

    /// The text from the value that was begun last to here.
    pub fn text_from(&self, start: usize) -> &'t str {
        &self.text[start..self.at]
    }

    /// Where the value begins that was begun last.
    pub const fn value_start(&self) -> usize {
        self.value_at
    }

    /// Whether the innermost that is open is a list that has just begun, under this key.
    pub fn has_opened_list(&self, key: &str) -> bool {
        self.open.last().is_some_and(|open| open.is_list && open.count == 0)
            && self.keys.last().is_some_and(|last| last.name == key)
    }

    /// How many values the list or object had that was closed last.
    pub const fn closed_count(&self) -> usize {
        self.closed_count
    }

    /// The first repeated key since this was asked last.
    pub const fn take_repeated(&mut self) -> Option<Fault> {
        self.repeated.take()
    }

    /// Begins with the text's one value.
    pub fn begin(&mut self) -> Result<(), Fault> {
        self.skip_space();
        self.begin_value()
    }

    /// Goes on in the innermost list or object: ends it, or begins its next value.
    pub fn step(&mut self) -> Result<(), Fault> {
        self.skip_space();
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let (is_list, is_first) = (open.is_list, open.count == 0);
        let end = if is_list { b']' } else { b'}' };
        match self.byte() {
            Some(byte) if byte == end => {
                self.at += 1;
                self.close();
                return Ok(());
            }
            Some(b',') if !is_first => {
                self.at += 1;
                self.skip_space();
                if self.byte() == Some(end) {
                    return Err(self.malformed("trailing comma"));
                }
            }
            Some(_) if is_first => {}
            Some(_) => return Err(self.malformed(if is_list { "expected `,` or `]`" } else { "expected `,` or `}`" })),
            None => return Err(self.malformed("the text ends inside of a list or an object")),
        }
        if !is_list {
            self.key()?;
        }
        if let Some(open) = self.open.last_mut() {
            open.count += 1;
        }
        self.begin_value()
    }

    /// Checks that nothing follows.
    pub fn end(mut self) -> Result<Facts, Fault> {
        self.skip_space();
        if self.at < self.text.len() { Err(self.malformed("trailing characters")) } else { Ok(self.facts) }
    }

    /// Reads a scalar to its end, or opens a list or an object.
    fn begin_value(&mut self) -> Result<(), Fault> {
        self.values += 1;
        if self.values > self.limits.values {
            return Err(Fault::TooManyValues { pointer: self.pointer(), values: self.limits.values });
        }
        self.value_at = self.at;
        match self.byte() {
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'{') => self.open(false),
            Some(b'[') => self.open(true),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            Some(_) => Err(self.malformed("expected value")),
            None => Err(self.malformed("the text ends where a value is expected")),
        }
    }

    fn open(&mut self, is_list: bool) -> Result<(), Fault> {
        if self.open.len() >= self.limits.depth {
            return Err(Fault::TooDeep { pointer: self.pointer(), levels: self.limits.depth });
        }
        self.at += 1;
        self.open.push(Open { is_list, count: 0, keys_before: self.keys.len() });
        self.facts.depth = self.facts.depth.max(self.open.len());
        Ok(())
    }

    fn close(&mut self) {
        let Some(closed) = self.open.pop() else { return };
        self.closed_count = closed.count;
        let keys = self.keys.get_mut(closed.keys_before..).unwrap_or_default();
        // Sorted, equal keys stand together, the earlier one first. Objects of a few keys are sorted without a copy.
        keys.sort_unstable();
        let repeated = keys.windows(2).filter(|pair| pair[0].name == pair[1].name).map(|pair| &pair[1]);
        let first = repeated.min_by_key(|key| key.at).map(|key| key.name.clone());
        self.keys.truncate(closed.keys_before);
        if let (Some(key), None) = (first, &self.repeated) {
            let mut pointer = self.pointer();
            push_segment(&mut pointer, &key);
            self.repeated = Some(Fault::RepeatedKey { pointer });
        }
    }

    fn key(&mut self) -> Result<(), Fault> {
        if self.byte() != Some(b'"') {
            return Err(self.malformed("key must be a string"));
        }
        let at = self.at;
        let name = unescape(self.string()?);
        self.keys.push(Key { name, at });
        self.skip_space();
        if self.byte() != Some(b':') {
            return Err(self.malformed("expected `:`"));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Reads a string; what stands between its quotes.
    fn string(&mut self) -> Result<&'t str, Fault> {
        self.at += 1;
        let start = self.at;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => {
                    return Err(self.malformed("control character (\\u0000-\\u001F) found while parsing a string"));
                }
                None => return Err(self.malformed("EOF while parsing a string")),
            }
        }
        let inside = &self.text[start..self.at];
        self.at += 1;
        Ok(inside)
    }

    fn escape(&mut self) -> Result<(), Fault> {
        self.at += 1;
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => self.unicode_escape(),
            _ => Err(self.malformed("invalid escape")),
        }
    }

    /// Reads an escape from its `u` on. Of a pair it reads both.
    fn unicode_escape(&mut self) -> Result<(), Fault> {
        let unit = self.hex_unit()?;
        if is_high(unit) {
            if !self.text.as_bytes()[self.at..].starts_with(b"\\u") {
                return Err(self.malformed("lone leading surrogate in hex escape"));
            }
            self.at += 1;
            if is_low(self.hex_unit()?) {
                return Ok(());
            }
        } else if !is_low(unit) {
            return Ok(());
        }
        Err(self.malformed("lone surrogate in hex escape"))
    }

    fn hex_unit(&mut self) -> Result<u16, Fault> {
        self.at += 1;
        let digits = self.text.as_bytes().get(self.at..self.at + 4).unwrap_or_default();
        let mut unit = 0;
        for digit in digits {
            let Some(digit) = char::from(*digit).to_digit(16) else { return Err(self.malformed("invalid escape")) };
            unit = unit << 4 | digit;
        }
        if digits.len() < 4 {
            return Err(self.malformed("invalid escape"));
        }
        self.at += 4;
        Ok(u16::try_from(unit).unwrap_or_default())
    }

    fn number(&mut self) -> Result<(), Fault> {
        self.skip(b"-");
        match self.byte() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.skip(b".") {
            self.digits()?;
        }
        if self.skip(b"eE") {
            self.skip(b"+-");
            self.digits()?;
        }
        if self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            return Err(self.malformed("invalid number"));
        }
        Ok(())
    }

    /// Reads one digit or more.
    fn digits(&mut self) -> Result<(), Fault> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.malformed("invalid number")) } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.malformed("expected ident"));
        }
        self.at += word.len();
        Ok(())
    }

    /// Skips one byte if it is one of these.
    fn skip(&mut self, bytes: &[u8]) -> bool {
        let is_one = self.byte().is_some_and(|byte| bytes.contains(&byte));
        self.at += usize::from(is_one);
        is_one
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
            self.facts.spaces += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The pointer to the value that is being read.
    fn pointer(&self) -> String {
        let mut pointer = String::new();
        let keys_at_end = self.open.iter().skip(1).map(|inner| inner.keys_before).chain([self.keys.len()]);
        for (open, keys) in self.open.iter().zip(keys_at_end).skip(self.pointers_from) {
            if open.is_list {
                push_segment(&mut pointer, &open.count.saturating_sub(1).to_string());
            } else if let Some(key) = keys.checked_sub(1).and_then(|last| self.keys.get(last)) {
                push_segment(&mut pointer, &key.name);
            }
        }
        pointer
    }

    fn malformed(&self, what: &'static str) -> Fault {
        let before = &self.text.as_bytes()[..self.at.min(self.text.len())];
        let line = before.split(|byte| *byte == b'\n').count();
        let column = 1 + before.iter().rev().take_while(|byte| **byte != b'\n').count();
        Fault::Malformed { what, line, column }
    }
}
