//! The inside of strings: where their plain part ends, and what their escapes stand for.

use std::borrow::Cow;

/// Bytes that are looked at together.
const STEP: usize = 8;
const ONES: u64 = u64::from_ne_bytes([1; STEP]);
const HIGH_BITS: u64 = ONES << 7;

/// The index of the first byte from `at` on that is not plain inside a string: a quote, a backslash or a control character;
/// the length of the text where there is none.
pub(super) fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
        let found = special(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / STEP;
        }
        at += STEP;
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    let rest = bytes.get(at..).unwrap_or_default();
    rest.iter().position(is_special).map_or(bytes.len(), |found| at + found)
}

/// Sets the high bit of each byte that is special, and perhaps of bytes above the lowest of them.
const fn special(word: u64) -> u64 {
    let quote = word ^ (ONES * b'"' as u64);
    let backslash = word ^ (ONES * b'\\' as u64);
    (zero_bytes(quote) | zero_bytes(backslash) | (word.wrapping_sub(ONES * 0x20) & !word)) & HIGH_BITS
}

/// Sets the high bit of each byte that is zero, and perhaps of bytes above the lowest of them.
const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word
}

/// The end of the string that begins at `at` in a scanned text: the index behind its closing quote.
pub(super) fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = plain_end(bytes, at + 1);
    while bytes.get(at) == Some(&b'\\') {
        at = plain_end(bytes, at + 2);
    }
    at + 1
}

/// What the inside of a scanned string stands for.
pub(super) fn unescape(raw: &str) -> Cow<'_, str> {
    let Some(first) = raw.find('\\') else { return Cow::Borrowed(raw) };
    let mut text = String::with_capacity(raw.len());
    text.push_str(&raw[..first]);
    let mut rest = &raw[first..];
    while let Some(escape) = rest.strip_prefix('\\') {
        let (c, after) = unescape_one(escape);
        text.push(c);
        let plain = after.find('\\').unwrap_or(after.len());
        text.push_str(&after[..plain]);
        rest = &after[plain..];
    }
    Cow::Owned(text)
}

/// The character of an escape whose backslash is gone, and the text behind it.
fn unescape_one(escape: &str) -> (char, &str) {
    let mut chars = escape.chars();
    let c = match chars.next() {
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        Some('u') => return unescape_unit(chars.as_str()),
        Some(c) => c,
        None => char::REPLACEMENT_CHARACTER,
    };
    (c, chars.as_str())
}

/// The character of `\uXXXX`, or of two of them that make a pair, and the text behind it.
fn unescape_unit(digits: &str) -> (char, &str) {
    let (unit, rest) = hex_unit(digits);
    let low = rest.strip_prefix("\\u").filter(|_| is_high(unit)).map(hex_unit);
    let (code, rest) = match low {
        Some((low, rest)) => (0x1_0000 + ((u32::from(unit) & 0x3ff) << 10) + (u32::from(low) & 0x3ff), rest),
        None => (u32::from(unit), rest),
    };
    (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest)
}

fn hex_unit(digits: &str) -> (u16, &str) {
    let (unit, rest) = digits.split_at_checked(4).unwrap_or((digits, ""));
    (u16::from_str_radix(unit, 16).unwrap_or_default(), rest)
}

/// Whether a UTF-16 unit is the first of a pair.
pub(super) const fn is_high(unit: u16) -> bool {
    matches!(unit, 0xd800..=0xdbff)
}

/// Whether a UTF-16 unit is the second of a pair.
pub(super) const fn is_low(unit: u16) -> bool {
    matches!(unit, 0xdc00..=0xdfff)
}
