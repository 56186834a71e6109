//! The scanner beside `serde_json`, on seeded texts and their mutations: both accept the same, but for the rules that only
//! the scanner has. `TASKBELL_FULL=1` runs a hundred times as many.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use taskbell::JsonText;
use taskbell::task::json::canonical::{Numbers, canonical};

use super::*;

const SEED: u64 = 0x15_0a_11;

fn texts() -> usize {
    if std::env::var_os("TASKBELL_FULL").is_some() { 1_000_000 } else { 10_000 }
}

/// What `serde_json` accepts, if no object has a key twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            if !keys.insert(key) {
                return Err(A::Error::custom("a repeated key"));
            }
            fields.next_value_seed(Self)?;
        }
        Ok(())
    }
}

fn judge(text: &str) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Strict.deserialize(&mut reader).and_then(|()| reader.end())
}

/// The canonical text as it was made from a tree, before hashes had a version.
fn canonical_of_tree(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(canonical_of_tree).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let member = |(key, value): (&&String, &&Value)| {
                format!("{}:{}", Value::from(key.as_str()), canonical_of_tree(value))
            };
            format!("{{{}}}", sorted.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

struct Writer {
    dice: StdRng,
    text: String,
}

impl Writer {
    fn up_to(&mut self, n: usize) -> usize {
        self.dice.random_range(0..=n)
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.up_to(of.len() - 1)]
    }

    fn space(&mut self) {
        let space = self.pick(&["", "", "", "", " ", "\n", "\t\r\n  "]);
        self.text.push_str(space);
    }

    fn string(&mut self) {
        self.text.push('"');
        for _ in 0..self.up_to(6) {
            let part = self.pick(&[
                "a",
                "key",
                "ü",
                "\u{1F514}",
                "\u{2028}",
                "\u{7f}",
                "\\n",
                "\\\"",
                "\\\\",
                "\\/",
                "\\u0061",
                "\\u00FC",
                "\\ud83d\\udd14",
                "        ",
                "long enough to be read in steps of eight bytes",
                "\\b",
                "\\f",
            ]);
            self.text.push_str(part);
        }
        self.text.push('"');
    }

    fn number(&mut self) {
        let number = match self.up_to(4) {
            0 => self.dice.random::<u64>().to_string(),
            1 => self.dice.random::<i64>().to_string(),
            2 => format!("{:?}", f64::from_bits(self.dice.random())).replace("inf", "7").replace("NaN", "8"),
            3 => {
                format!("{}{}{}", self.up_to(9), self.pick(&["", ".50", ".0"]), self.pick(&["", "e5", "E-07", "e+300"]))
            }
            _ => self.pick(&["0", "-0", "-0.0", "1e400", "123456789012345678901234567890", "4.9e-324"]).to_owned(),
        };
        self.text.push_str(&number);
    }

    fn value(&mut self, levels: usize) {
        self.space();
        match self.up_to(if levels == 0 { 4 } else { 8 }) {
            0 => {
                let word = self.pick(&["null", "true", "false"]);
                self.text.push_str(word);
            }
            1 | 2 => self.number(),
            3 | 4 => self.string(),
            5 | 6 => self.many('[', ']', |writer| writer.value(levels - 1)),
            _ => self.many('{', '}', |writer| {
                writer.space();
                writer.string();
                writer.space();
                writer.text.push(':');
                writer.value(levels - 1);
            }),
        }
        self.space();
    }

    fn many(&mut self, open: char, close: char, one: impl Fn(&mut Self)) {
        self.text.push(open);
        for n in 0..self.up_to(4) {
            if n > 0 {
                self.text.push(',');
            }
            one(self);
        }
        self.space();
        self.text.push(close);
    }

    /// Removes, doubles or replaces a character.
    fn mutate(&mut self) {
        let mut chars: Vec<char> = self.text.chars().collect();
        let at = self.up_to(chars.len().saturating_sub(1));
        if chars.is_empty() {
            return;
        }
        match self.up_to(3) {
            0 => drop(chars.remove(at)),
            1 => chars.insert(at, chars[at]),
            2 => chars.truncate(at),
            _ => {
                chars[at] = self
                    .pick(&["{", "}", "[", "]", ",", ":", "\"", "\\", "0", "-", ".", "e", "u", " ", "\u{1}"])
                    .chars()
                    .next()
                    .unwrap();
            }
        }
        self.text = chars.into_iter().collect();
    }
}

#[test]
fn the_scanner_and_serde_json_accept_the_same_texts_and_read_the_same_values() {
    let mut writer = Writer { dice: StdRng::seed_from_u64(SEED), text: String::new() };
    let (mut accepted, mut refused, mut beyond_floats) = (0, 0, 0);
    for _ in 0..texts() {
        writer.text.clear();
        let levels = writer.up_to(6);
        writer.value(levels);
        for _ in 0..writer.up_to(2) {
            writer.mutate();
        }
        let text = &writer.text;
        let scanned = facts(text);
        match judge(text) {
            // The scanner keeps every number.
            Err(error) if error.to_string().contains("number out of range") => beyond_floats += 1,
            Err(error) => {
                assert!(scanned.is_err(), "{text:?}: serde_json says {error}");
                refused += 1;
            }
            Ok(()) => {
                assert!(scanned.is_ok(), "{text:?}: {scanned:?}");
                assert_same_value(text);
                accepted += 1;
            }
        }
    }
    assert!(accepted * 4 > texts() && refused * 4 > texts() && beyond_floats * 10 < texts(), "{accepted} {refused}");
}

fn assert_same_value(text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let kept = JsonText::parse(text).unwrap();
    assert_eq!(kept.to_value(), value, "{text:?}");
    assert_eq!(serde_json::from_str::<Value>(kept.as_str()).unwrap(), value, "{text:?}");
    assert_eq!(JsonText::parse(kept.as_str()).unwrap(), kept, "{text:?}");
    assert_eq!(facts(kept.as_str()).unwrap().spaces, 0, "{text:?}");
    assert_eq!(canonical(text, Numbers::Rounded, "none"), canonical_of_tree(&value), "{text:?}");
    let written = canonical(text, Numbers::AsWritten, "none");
    assert_eq!(canonical(&written, Numbers::AsWritten, "none"), written, "{text:?}");
    assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), value, "{text:?}");
}
