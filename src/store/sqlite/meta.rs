//! `meta` in columns: when the columns give its JSON text, and this text.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use uuid::Uuid;

use crate::store::{Meta, Via};

/// What precedes the UUID in the name of a task's stream.
pub(super) const TASK_PREFIX: &str = "task-";

/// A text that is stored in 16 bytes if it ends with a UUID: as a blob. Otherwise it is stored as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextOrUuid<'a> {
    Text(&'a str),
    Uuid(Uuid),
}

impl<'a> TextOrUuid<'a> {
    /// A UUID if the text is this prefix and a UUID in its lower-case, hyphenated form.
    pub(super) fn new(text: &'a str, prefix: &str) -> Self {
        let uuid = text.strip_prefix(prefix).filter(|rest| rest.len() == 36).and_then(|rest| {
            let uuid = Uuid::try_parse(rest).ok()?;
            (uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == rest).then_some(uuid)
        });
        uuid.map_or(Self::Text(text), Self::Uuid)
    }

    /// The text of a column; `None` if it is neither a text nor a UUID.
    pub(super) fn text_in(column: ValueRef<'_>, prefix: &str) -> Option<String> {
        match column {
            ValueRef::Text(text) => String::from_utf8(text.to_owned()).ok(),
            ValueRef::Blob(bytes) => Some(format!("{prefix}{}", Uuid::from_slice(bytes).ok()?.hyphenated())),
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => None,
        }
    }
}

impl ToSql for TextOrUuid<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let value = match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Uuid(uuid) => ValueRef::Blob(uuid.as_bytes()),
        };
        Ok(ToSqlOutput::Borrowed(value))
    }
}

/// The word for `via` in `meta` and in the table `actors`. A stored word never changes: hashes cover it.
pub(super) const fn via_text(via: Via) -> &'static str {
    match via {
        Via::Http => "http",
        Via::Cli => "cli",
        Via::Worker => "worker",
        Via::Server => "scheduler",
        Via::Library => "library",
    }
}

/// The `via` of this word.
pub(super) fn via_of(text: &str) -> Option<Via> {
    [Via::Http, Via::Cli, Via::Worker, Via::Server, Via::Library].into_iter().find(|via| via_text(*via) == text)
}

/// Whether the columns of this `meta` give exactly this text, so that the row needs no text. `meta` must be what is parsed from
/// the text.
///
/// A text that needs an escape is not given: the text here is compared with the values themselves. So the view `log_as_text`
/// needs no rules for escapes.
pub(super) fn columns_give(meta: &Meta, text: &str) -> bool {
    rest_after_columns(meta, text) == Some("")
}

/// The text after `meta`, if it begins with it.
fn rest_after_columns<'a>(meta: &Meta, text: &'a str) -> Option<&'a str> {
    let Meta { actor, via, correlation_id, causation_id, request_id } = meta;
    let after_uuid = |text: &'a str, id: &Uuid| -> Option<&'a str> {
        text.strip_prefix(&*id.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    };
    let rest = text.strip_prefix("{\"actor\":\"")?.strip_prefix(actor.as_str())?;
    let rest = rest.strip_prefix("\",\"via\":\"")?.strip_prefix(via_text(*via))?;
    let rest = after_uuid(rest.strip_prefix("\",\"correlation_id\":\"")?, correlation_id)?;
    let rest = rest.strip_prefix("\",\"causation_id\":")?;
    let rest = match causation_id {
        None => rest.strip_prefix("null")?,
        Some(id) => after_uuid(rest.strip_prefix('"')?, id)?.strip_prefix('"')?,
    };
    let rest = rest.strip_prefix(",\"request_id\":")?;
    let rest = match request_id {
        None => rest.strip_prefix("null")?,
        Some(id) => rest.strip_prefix('"')?.strip_prefix(id.as_str())?.strip_prefix('"')?,
    };
    rest.strip_prefix('}')
}

/// Writes the text that the columns of this `meta` give. It is the inverse of [`columns_give`], so no value of it needs an escape.
pub(super) fn write_text_of_columns(meta: &Meta, text: &mut String) {
    let Meta { actor, via, correlation_id, causation_id, request_id } = meta;
    let push_uuid =
        |text: &mut String, id: &Uuid| text.push_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
    for part in ["{\"actor\":\"", actor, "\",\"via\":\"", via_text(*via), "\",\"correlation_id\":\""] {
        text.push_str(part);
    }
    push_uuid(text, correlation_id);
    text.push_str("\",\"causation_id\":");
    match causation_id {
        None => text.push_str("null"),
        Some(id) => {
            text.push('"');
            push_uuid(text, id);
            text.push('"');
        }
    }
    text.push_str(",\"request_id\":");
    match request_id {
        None => text.push_str("null"),
        Some(id) => ["\"", id, "\""].into_iter().for_each(|part| text.push_str(part)),
    }
    text.push('}');
}
