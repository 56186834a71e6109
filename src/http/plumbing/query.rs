//! Reads query strings and filters. Unknown names, repeated names and empty values are refused, not ignored.
//!
//! A handler removes the fields that it knows from [`Fields`], by name, and then refuses the remaining ones.

use std::collections::HashSet;

use super::error::Problem;
use super::filter::{FIELDS_MAX, SentFilter, Terms};
use crate::http::limits::ClientLimits;
use crate::task::limits::{LABEL_MAX, is_line, is_name, is_owner};
use crate::task::{Position, Status, Timestamp};
use crate::views::{Cursor, Filter, Order, PageRequest, Scope};

/// How many items a page has if the request has no `limit`.
pub const DEFAULT_LIMIT: usize = 20;

/// The fields of a query string, or of a filter in a body, that the handler has not taken yet.
pub struct Fields {
    /// The name and the value of each field.
    pairs: Vec<(String, String)>,
    /// The prefix of the pointer to a field: `/query` or `/filter`.
    pointer_prefix: &'static str,
}

impl Fields {
    /// Reads the fields of a query string.
    ///
    /// # Errors
    /// 422 if a decoded text isn't UTF-8, a value is empty, a name other than `label` is repeated, or there are more than 1,024
    /// fields.
    pub fn from_query(query: &str) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            for (name, value) in form_urlencoded::parse(part.as_bytes()) {
                if name.contains('\u{fffd}') || value.contains('\u{fffd}') {
                    return Err(Problem::invalid_field("/query", "the percent-encoded text is not UTF-8"));
                }
                pairs.push((name.into_owned(), value.into_owned()));
                if pairs.len() > FIELDS_MAX {
                    return Err(Problem::invalid_field("/query", format!("more than {FIELDS_MAX} fields")));
                }
            }
        }
        Self { pairs, pointer_prefix: "/query" }.check()
    }

    /// Reads the fields of a filter in a body. Their values must be texts or lists of texts.
    ///
    /// # Errors
    /// 422 if a value is anything else, and as [`Self::from_query`].
    pub fn from_filter(filter: SentFilter) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for (name, terms) in filter.0 {
            let texts = match terms {
                Terms::Text(text) => vec![text],
                Terms::List(texts) => texts,
                Terms::Other => Vec::new(),
            };
            if texts.is_empty() {
                let empty = Self { pairs: Vec::new(), pointer_prefix: "/filter" };
                return Err(empty.refuse(&name, "a text or a list of texts is needed"));
            }
            if LIST_FIELDS.contains(&name.as_str()) {
                pairs.push((name, texts.join(",")));
            } else {
                pairs.extend(texts.into_iter().map(|text| (name.clone(), text)));
            }
        }
        Self { pairs, pointer_prefix: "/filter" }.check()
    }

    fn check(self) -> Result<Self, Problem> {
        let mut seen = HashSet::new();
        if self.pairs.len() > FIELDS_MAX {
            return Err(Problem::invalid_field(self.pointer_prefix, format!("more than {FIELDS_MAX} fields")));
        }
        for (name, value) in &self.pairs {
            if value.is_empty() {
                return Err(self.refuse(name, "the value must not be empty"));
            }
            if !seen.insert(name) && name != "label" {
                return Err(self.refuse(name, "the field may be given only once"));
            }
        }
        Ok(self)
    }

    /// 422: the value of this field is not allowed.
    pub fn refuse(&self, name: &str, detail: impl Into<String>) -> Problem {
        Problem::invalid_field(
            format!("{}/{}", self.pointer_prefix, name.replace('~', "~0").replace('/', "~1")),
            detail,
        )
    }

    /// Whether no field is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The value of the field with this name, if it was not taken.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Removes the field with this name and returns its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let index = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.swap_remove(index).1)
    }

    /// Takes a whole number.
    ///
    /// # Errors
    /// 422 if the value has characters other than digits, or is above `u64::MAX`.
    pub fn take_number(&mut self, name: &str) -> Result<Option<u64>, Problem> {
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
    /// As [`Self::take_number`].
    pub fn take_position(&mut self, name: &str) -> Result<Option<Position>, Problem> {
        Ok(self.take_number(name)?.map(Position))
    }

    /// Takes a time (RFC 3339).
    ///
    /// # Errors
    /// 422 if the value isn't a time.
    pub fn take_time(&mut self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.take(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| self.refuse(name, format!("{error}")))
    }

    /// Takes `true` or `false`. An absent field counts as `false`.
    ///
    /// # Errors
    /// 422 if the value is anything else.
    pub fn take_flag(&mut self, name: &str) -> Result<bool, Problem> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(self.refuse(name, "true or false")),
        }
    }

    /// Takes a list of values that are separated by commas. The values are counted before they are read.
    fn take_list(
        &mut self,
        name: &str,
        terms_max: usize,
        is_valid: impl Fn(&str) -> bool,
        detail: &str,
    ) -> Result<Vec<String>, Problem> {
        let Some(text) = self.take(name) else { return Ok(Vec::new()) };
        if text.bytes().filter(|byte| *byte == b',').count() >= terms_max {
            return Err(self.refuse(name, format!("at most {terms_max} values (max_filter_terms)")));
        }
        if !text.split(',').all(is_valid) {
            return Err(self.refuse(name, detail));
        }
        Ok(text.split(',').map(str::to_owned).collect())
    }

    /// Takes the owners that the field `owner` names: a list, or `*` for everyone. `None` if there is no such field.
    ///
    /// # Errors
    /// 422 if a name is invalid, or if `*` stands beside names.
    pub fn take_owners(&mut self, limits: &ClientLimits) -> Result<Option<Scope>, Problem> {
        let Some(value) = self.value("owner") else { return Ok(None) };
        if value == EVERYONE {
            self.take("owner");
            return Ok(Some(Scope::Everyone));
        }
        self.take_list("owner", limits.filter_terms, is_owner, OWNER_RULE).map(|owners| Some(Scope::Owners(owners)))
    }

    /// Takes all fields of a filter but `owner`, and makes a filter of them for the tasks of this scope.
    ///
    /// # Errors
    /// 422 if one of them is invalid.
    pub fn take_filter(&mut self, limits: &ClientLimits, scope: Scope) -> Result<Filter, Problem> {
        let terms_max = limits.filter_terms;
        let name_rule = "names, separated by commas: a-z, 0-9, '.', '_', '-'";
        let is_status = |name: &str| Status::from_name(name).is_some();
        let statuses = self.take_list("status", terms_max, is_status, "statuses, separated by commas")?;
        let mut filter = Filter {
            status: statuses.iter().filter_map(|name| Status::from_name(name)).collect(),
            kind: self.take_list("kind", terms_max, is_name, name_rule)?,
            queue: self.take_list("queue", terms_max, is_name, name_rule)?,
            created_after: self.take_time("created_after")?,
            created_before: self.take_time("created_before")?,
            finished_after: self.take_time("finished_after")?,
            finished_before: self.take_time("finished_before")?,
            ..Filter::of(scope)
        };
        while let Some(label) = self.take("label") {
            let pair =
                label.split_once(':').filter(|(key, value)| is_line(key, LABEL_MAX) && is_line(value, LABEL_MAX));
            let (key, value) = pair.ok_or_else(|| self.refuse("label", "key:value is needed"))?;
            filter.labels.push((key.to_owned(), value.to_owned()));
            if filter.labels.len() > terms_max {
                return Err(self.refuse("label", format!("at most {terms_max} labels (max_filter_terms)")));
            }
        }
        filter.q = self.take_words(limits)?;
        if let Some(parent) = self.take("parent") {
            filter.parent = Some(parent.parse().map_err(|error| self.refuse("parent", format!("{error}")))?);
        }
        Ok(filter)
    }

    /// Takes the words of the field `q`.
    fn take_words(&mut self, limits: &ClientLimits) -> Result<Vec<String>, Problem> {
        let (words_max, bytes_max) = (limits.filter_terms, limits.search_bytes);
        let Some(text) = self.take("q") else { return Ok(Vec::new()) };
        if text.len() > bytes_max {
            return Err(self.refuse("q", format!("at most {bytes_max} bytes (max_search_bytes)")));
        }
        let words = Filter::words(&text);
        if !(1..=words_max).contains(&words.len()) {
            return Err(self.refuse("q", format!("1 to {words_max} words are needed (max_filter_terms)")));
        }
        Ok(words)
    }

    /// Takes the fields that choose a page of a list: `limit`, `order` and `cursor`.
    ///
    /// # Errors
    /// 422 if one of them is invalid.
    pub fn take_page_request(&mut self, limits: &ClientLimits) -> Result<PageRequest, Problem> {
        let limit = self.take_number("limit")?;
        let limit = limit.map_or(DEFAULT_LIMIT, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let limit_max = limits.page_tasks;
        if !(1..=limit_max).contains(&limit) {
            return Err(self.refuse("limit", format!("1 to {limit_max} (max_page_tasks)")));
        }
        Ok(PageRequest { order: self.take_order()?, limit, cursor: self.take_cursor()? })
    }

    /// Takes the order. The default is the newest first.
    ///
    /// # Errors
    /// 422 if the value is anything other than `asc` or `desc`.
    pub fn take_order(&mut self) -> Result<Order, Problem> {
        match self.take("order").as_deref() {
            None | Some("desc") => Ok(Order::Desc),
            Some("asc") => Ok(Order::Asc),
            Some(_) => Err(self.refuse("order", "asc or desc")),
        }
    }

    /// Takes the cursor of a page.
    ///
    /// # Errors
    /// 422 if the value doesn't have the form of a cursor.
    pub fn take_cursor(&mut self) -> Result<Option<Cursor>, Problem> {
        let Some(text) = self.take("cursor") else { return Ok(None) };
        Cursor::decode(&text).map(Some).map_err(|_| invalid_cursor())
    }

    /// Refuses the request if it has a field that the handler has not taken.
    ///
    /// # Errors
    /// 422 if a field remains.
    pub fn refuse_unknown(self) -> Result<(), Problem> {
        match self.pairs.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.refuse(name, "this route has no such field")),
        }
    }
}

/// The value of the field `owner` that means the tasks of everyone.
const EVERYONE: &str = "*";
const OWNER_RULE: &str =
    "owners, separated by commas, each of 1 to 128 printable characters; or `*` alone, for everyone";

/// The fields whose value is a list, separated by commas.
const LIST_FIELDS: [&str; 4] = ["status", "kind", "queue", "owner"];

/// 422: the cursor is damaged, or belongs to another list.
#[must_use]
pub fn invalid_cursor() -> Problem {
    Problem::invalid_field(
        "/query/cursor",
        "this cursor does not belong to this list; use the value of `next` or `prev`",
    )
}
