//! A filter as a body or a message holds it: names, and for each a text or a list of texts.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The most fields of one query string or filter. Each label of a filter is a field, and no list may have more values.
pub const FIELDS_MAX: usize = 1024;
/// Texts of a list that are kept: more than every use of a filter allows, so that a longer list is still refused.
const KEPT: usize = FIELDS_MAX + 1;

/// The fields of a filter, in order. What they mean is for [`super::query::Fields`] to judge.
#[derive(Debug)]
pub struct SentFilter(pub Vec<(String, Terms)>);

/// The value of a field.
#[derive(Debug, PartialEq, Eq)]
pub enum Terms {
    /// One text.
    Text(String),
    /// A list of texts; of a very long one the first.
    List(Vec<String>),
    /// Anything else.
    Other,
}

impl<'de> Deserialize<'de> for SentFilter {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = SentFilter;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<SentFilter, A::Error> {
                let mut sent = Vec::new();
                while let Some(field) = fields.next_entry()? {
                    sent.push(field);
                }
                Ok(SentFilter(sent))
            }
        }

        from.deserialize_map(Names)
    }
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyTerms)
    }
}

struct AnyTerms;

/// Everything but a text and a list is read and forgotten.
impl<'de> Visitor<'de> for AnyTerms {
    type Value = Terms;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E>(self, text: &str) -> Result<Terms, E> {
        Ok(Terms::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Terms, A::Error> {
        let (mut texts, mut is_plain) = (Vec::new(), true);
        while let Some(Item(text)) = items.next_element()? {
            is_plain &= text.is_some();
            texts.extend(text.filter(|_| texts.len() < KEPT));
        }
        Ok(if is_plain { Terms::List(texts) } else { Terms::Other })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Terms, A::Error> {
        while fields.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Terms::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Terms, E> {
        Ok(Terms::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Terms, E> {
        Ok(Terms::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Terms, E> {
        Ok(Terms::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Terms, E> {
        Ok(Terms::Other)
    }

    fn visit_unit<E>(self) -> Result<Terms, E> {
        Ok(Terms::Other)
    }
}

/// An item of a list of texts; none where it is anything else.
struct Item(Option<String>);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match Terms::deserialize(from)? {
            Terms::Text(text) => Some(text),
            Terms::List(_) | Terms::Other => None,
        }))
    }
}
