//! The form of a text in which equal requests are equal: no white space, members in the order of their keys, strings escaped
//! in one way.

use std::borrow::Cow;
use std::ops::Range;

use super::strings::unescape;
use super::walk::{Number, Token, Walk, nearest};

/// How numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As they stand in the text.
    AsWritten,
    /// As `serde_json` writes them after it has read them: integers beyond 64 bits are rounded to doubles.
    Rounded,
}

/// The canonical form of a scanned object, without its member `left_out`.
#[must_use]
pub fn canonical(text: &str, numbers: Numbers, left_out: &str) -> String {
    let mut writer = Writer { out: String::with_capacity(text.len()), numbers };
    let mut walk = Walk::new(text);
    match walk.token() {
        Token::OpenObject => writer.object(&mut walk, Some(left_out)),
        other @ (Token::OpenList | Token::Text(_) | Token::Word(_)) => writer.value(other, &mut walk),
    }
    writer.out
}

struct Writer {
    out: String,
    numbers: Numbers,
}

impl Writer {
    fn value(&mut self, token: Token<'_>, walk: &mut Walk<'_>) {
        match token {
            Token::OpenList => self.list(walk),
            Token::OpenObject => self.object(walk, None),
            Token::Text(raw) => self.text(raw),
            Token::Word(word) => self.word(word),
        }
    }

    fn list(&mut self, walk: &mut Walk<'_>) {
        self.out.push('[');
        let start = self.out.len();
        while !walk.ends() {
            self.separate(start);
            self.value(walk.token(), walk);
        }
        self.out.push(']');
    }

    fn object(&mut self, walk: &mut Walk<'_>, left_out: Option<&str>) {
        self.out.push('{');
        let start = self.out.len();
        let mut members: Vec<(Cow<'_, str>, Range<usize>)> = Vec::new();
        while let Some(key) = walk.key() {
            let before = self.out.len();
            self.separate(start);
            let from = self.out.len();
            self.quoted(&key);
            self.out.push(':');
            self.value(walk.token(), walk);
            if left_out == Some(&*key) {
                self.out.truncate(before);
            } else {
                members.push((key, from - start..self.out.len() - start));
            }
        }
        if !members.is_sorted_by(|(one, _), (next, _)| one < next) {
            members.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
            self.reorder(start, &members);
        }
        self.out.push('}');
    }

    /// Writes the members again, in their order. Their ranges are relative to `start`.
    fn reorder(&mut self, start: usize, members: &[(Cow<'_, str>, Range<usize>)]) {
        let written = self.out.split_off(start);
        for (_, range) in members {
            self.separate(start);
            self.out.push_str(&written[range.clone()]);
        }
    }

    /// Writes a comma unless nothing has been written since `start`.
    fn separate(&mut self, start: usize) {
        if self.out.len() > start {
            self.out.push(',');
        }
    }

    fn text(&mut self, raw: &str) {
        self.quoted(&unescape(raw));
    }

    fn quoted(&mut self, text: &str) {
        self.out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }

    fn word(&mut self, word: &str) {
        let is_number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        match self.numbers {
            Numbers::Rounded if is_number => self.out.push_str(&rounded(word)),
            Numbers::Rounded | Numbers::AsWritten => self.out.push_str(word),
        }
    }
}

fn rounded(number: &str) -> String {
    match nearest(number) {
        Number::Positive(number) => number.to_string(),
        Number::Negative(number) => number.to_string(),
        Number::Float(number) => serde_json::to_string(&number).unwrap_or_default(),
    }
}
