//! Query strings and filters: unknown names, repeated names and empty values are refused, not ignored.
//!
//! A handler takes out the fields that it knows, by name, and then refuses the rest.

use std::collections::HashSet;

use super::error::Problem;
use super::filter::{SentFilter, Terms};
use crate::task::limits::{LABEL_MAX, is_line, is_name, is_owner};
use crate::task::{Position, Status, Timestamp};
use crate::views::{Cursor, Filter, Order};

/// Terms of one filter at most.
const TERMS_MAX: usize = 64;

/// The fields of a query string or of a filter in a body that were not taken yet.
pub struct Fields {
    /// Names and values.
    pairs: Vec<(String, String)>,
    /// The pointer of the whole, which begins the pointer of a field in a refusal: `/query` or `/filter`.
    at: &'static str,
}

impl Fields {
    /// The fields of a query string.
    ///
    /// # Errors
    /// 422 where a percent-encoded text isn't UTF-8, a value is empty, a name other than `label` is repeated, or there are
    /// more than 64 fields.
    pub fn of_query(query: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            for (name, value) in form_urlencoded::parse(part.as_bytes()) {
                if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                    return Err(Problem::invalid_field("/query", "not UTF-8 behind its percent signs"));
                }
                pairs.push((name.into_owned(), value.into_owned()));
            }
        }
        Self { pairs, at: "/query" }.checked()
    }

    /// The fields of a filter in a body: their values are texts or lists of texts.
    ///
    /// # Errors
    /// 422 where a value is something else, and as [`Self::of_query`].
    pub fn of_filter(filter: SentFilter) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for (name, terms) in filter.0 {
            let texts = match terms {
                Terms::Text(text) => vec![text],
                Terms::List(texts) => texts,
                Terms::Other => Vec::new(),
            };
            if texts.is_empty() {
                let empty = Self { pairs: Vec::new(), at: "/filter" };
                return Err(empty.refuse(&name, "a text or a list of texts is needed"));
            }
            if LISTS.contains(&name.as_str()) {
                pairs.push((name, texts.join(",")));
            } else {
                pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
            }
        }
        Self { pairs, at: "/filter" }.checked()
    }

    fn checked(self) -> Result<Self, Problem> {
        let mut seen = HashSet::new();
        if self.pairs.len() > TERMS_MAX {
            return Err(Problem::invalid_field(self.at, format!("more than {TERMS_MAX} terms")));
        }
        for (name, value) in &self.pairs {
            if value.is_empty() {
                return Err(self.refuse(name, "empty"));
            }
            if !seen.insert(name) && name != "label" {
                return Err(self.refuse(name, "given twice"));
            }
        }
        Ok(self)
    }

    fn refuse(&self, name: &str, detail: impl Into<String>) -> Problem {
        Problem::invalid_field(format!("{}/{}", self.at, name.replace('~', "~0").replace('/', "~1")), detail)
    }

    /// Takes the field of this name.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.swap_remove(index).1)
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// 422 where it has other characters than digits, or is above `u64::MAX`.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits => Ok(Some(number)),
            _ => Err(self.refuse(name, "a whole number is needed")),
        }
    }

    /// Takes a position in the log.
    ///
    /// # Errors
    /// As [`Self::number`].
    pub fn position(&mut self, name: &str) -> Result<Option<Position>, Problem> {
        Ok(self.number(name)?.map(Position))
    }

    /// Takes a time (RFC 3339).
    ///
    /// # Errors
    /// 422 where it isn't one.
    pub fn time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| self.refuse(name, format!("{error}")))
    }

    /// Takes `true` or `false`; absent is false.
    ///
    /// # Errors
    /// 422 where it is anything else.
    pub fn flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.refuse(name, "true or false")),
        }
    }

    fn list(&mut self, name: &str, good: impl Fn(&str) -> bool, detail: &str) -> Result<Vec<String>, Problem> {
        let Some(text) = self.take(name) else { return Ok(Vec::new()) };
        let values: Vec<String> = text.split(',').map(str::to_owned).collect();
        if values.len() > TERMS_MAX || !values.iter().all(|value| good(value)) {
            return Err(self.refuse(name, detail));
        }
        Ok(values)
    }

    /// Takes the fields of a filter.
    ///
    /// # Errors
    /// 422 where one is invalid.
    pub fn filter(&mut self) -> Result<Filter, Problem> {
        let names = "a comma list of names: a-z, 0-9, '.', '_', '-'";
        let known = |name: &str| Status::from_name(name).is_some();
        let status = self.list("status", known, "a comma list of statuses")?;
        let mut filter = Filter {
            status: status.iter().filter_map(|name| Status::from_name(name)).collect(),
            kind: self.list("kind", is_name, names)?,
            queue: self.list("queue", is_name, names)?,
            owner: self.list("owner", is_owner, "a comma list of owners")?,
            created_after: self.time("created_after")?,
            created_before: self.time("created_before")?,
            finished_after: self.time("finished_after")?,
            finished_before: self.time("finished_before")?,
            ..Filter::default()
        };
        while let Some(label) = self.take("label") {
            let pair =
                label.split_once(':').filter(|(key, value)| is_line(key, LABEL_MAX) && is_line(value, LABEL_MAX));
            let (key, value) = pair.ok_or_else(|| self.refuse("label", "key:value is needed"))?;
            filter.labels.push((key.to_owned(), value.to_owned()));
        }
        if let Some(words) = self.take("q") {
            filter.q = Filter::words(&words);
            if filter.q.is_empty() || filter.q.len() > TERMS_MAX {
                return Err(self.refuse("q", "1 to 64 words are needed"));
            }
        }
        if let Some(parent) = self.take("parent") {
            filter.parent = Some(parent.parse().map_err(|error| self.refuse("parent", format!("{error}")))?);
        }
        Ok(filter)
    }

    /// Takes the order; absent is the newest first.
    ///
    /// # Errors
    /// 422 where it is anything else than `asc` or `desc`.
    pub fn order(&mut self) -> Result<Order, Problem> {
        match self.take("order").as_deref() {
            None | Some("desc") => Ok(Order::Desc),
            Some("asc") => Ok(Order::Asc),
            Some(_) => Err(self.refuse("order", "asc or desc")),
        }
    }

    /// Takes the cursor.
    ///
    /// # Errors
    /// 422 where this server didn't make it.
    pub fn cursor(&mut self) -> Result<Option<Cursor>, Problem> {
        let Some(text) = self.take("cursor") else { return Ok(None) };
        Cursor::decode(&text).map(Some).map_err(|_| bad_cursor())
    }

    /// Refuses fields that were not taken.
    ///
    /// # Errors
    /// 422 where one is left.
    pub fn refuse_rest(self) -> Result<(), Problem> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.refuse(name, "unknown here")),
        }
    }
}

/// Fields that hold several values in one text, separated by commas.
const LISTS: [&str; 4] = ["status", "kind", "queue", "owner"];

/// 422: the cursor is damaged, or belongs to another list.
#[must_use]
pub fn bad_cursor() -> Problem {
    Problem::invalid_field("/query/cursor", "no cursor of this list; take one from `next` or `prev`")
}
