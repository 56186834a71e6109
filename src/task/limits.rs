//! What the fields of a request for a task may contain. Sizes are in bytes of UTF-8, unless the
//! documentation of a constant names another unit.

use super::event::Created;
use super::json::JsonText;
pub use super::json::text::DEPTH_MAX;

/// The longest name of a kind or a queue, in characters.
pub const NAME_MAX: usize = 64;
/// The longest owner, in characters.
pub const OWNER_MAX: usize = 128;
/// The prefix of the names of workers inside a server's process: `local/<host name>/<id>`. The id is new
/// for each start of the process.
pub const LOCAL_WORKER_PREFIX: &str = "local/";
/// The longest name of a worker, in characters.
pub const WORKER_MAX: usize = 128;
/// The longest title.
pub const TITLE_MAX: usize = 512;
/// The longest input, as compact JSON.
pub const INPUT_MAX: usize = 64 * 1024;
/// The longest result, as compact JSON.
pub const RESULT_MAX: usize = 256 * 1024;
/// The longest tail of an attempt's output in the log.
pub const OUTPUT_TAIL_MAX: usize = 64 * 1024;
/// The maximum number of acknowledgements of one request to cancel in the log. Further acknowledgements are ignored. So a
/// worker that acknowledges in each step doesn't fill the log.
pub const ACKNOWLEDGEMENTS_MAX: u32 = 100;
/// The longest reason, message or name of a step.
pub const TEXT_MAX: usize = 1024;
/// The longest idempotency key.
pub const IDEMPOTENCY_KEY_MAX: usize = 255;
/// The maximum number of labels of a task.
pub const LABELS_MAX: usize = 32;
/// The longest key or value of a label, and the longest unique or concurrency key.
pub const LABEL_MAX: usize = 128;
/// The largest `max_attempts` of a task.
pub const ATTEMPTS_MAX: u32 = 100;
/// The largest `timeout_s` of a task, in seconds: 30 days.
pub const TIMEOUT_MAX_S: u64 = 30 * 24 * 3600;

/// An invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The JSON Pointer (RFC 6901) of the field.
    pub pointer: String,
    /// What is required of the field, for people.
    pub detail: String,
}

impl Invalid {
    /// An invalid field at the JSON Pointer `pointer`. `detail` says what is required of it.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }
}

/// Whether `text` may be the name of a kind or a queue: `[a-z0-9._-]{1,64}`.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

/// Whether a kind or a queue is reserved for tasks of the server itself. The command line refuses a limit for it, and operators
/// can't pause it. Clients can't create its tasks, and workers in other processes can't take them.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("taskbell.")
}

/// Whether `text` may be the name of an owner: 1 to 128 printable characters, without a comma. `*` is no name, because a filter
/// means everyone by it. Characters that change the
/// direction of the text (UAX #9) are not allowed, because they can make a name look like another name.
#[must_use]
pub fn is_owner(text: &str) -> bool {
    let changes_direction = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    is_line(text, OWNER_MAX * 4)
        && text.chars().count() <= OWNER_MAX
        && text != "*"
        && !text.chars().any(|c| c == ',' || changes_direction(c))
}

/// Whether `text` may be the subject of a credential: an owner, but none of the names that the server itself writes as the actor
/// of an event. These are `system`, `local` (the user without a credential) and the workers inside a server's process.
#[must_use]
pub fn is_subject(text: &str) -> bool {
    is_owner(text) && !matches!(text, "system" | "local") && !text.starts_with(LOCAL_WORKER_PREFIX)
}

/// Whether `text` is one line of at most `max` bytes. The line must not be blank or contain control characters.
#[must_use]
pub fn is_line(text: &str, max: usize) -> bool {
    text.len() <= max && !text.trim().is_empty() && text.chars().all(is_line_character)
}

/// Whether a line may contain this character: it is no control character and no separator of lines or paragraphs.
#[must_use]
pub fn is_line_character(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// The invalid fields of the request. The list is empty if the request is valid.
#[must_use]
pub fn invalid_fields(new: &Created) -> Vec<Invalid> {
    let mut invalid = Vec::new();
    let mut rule = |holds: bool, pointer: &str, detail: &str| {
        if !holds {
            invalid.push(Invalid::new(pointer, detail));
        }
    };
    rule(is_name(&new.kind), "/kind", "1 to 64 of a-z, 0-9, '.', '_', '-'");
    rule(is_name(&new.queue), "/queue", "1 to 64 of a-z, 0-9, '.', '_', '-'");
    rule(is_owner(&new.owner), "/owner", "1 to 128 printable characters, no comma, and not `*`");
    rule(is_line(&new.title, TITLE_MAX), "/title", "1 to 512 bytes, one line, no control characters");
    rule((1..=ATTEMPTS_MAX).contains(&new.max_attempts), "/max_attempts", "1 to 100");
    rule(new.timeout_s.is_none_or(|s| (1..=TIMEOUT_MAX_S).contains(&s)), "/timeout_s", "1 to 2592000 seconds");
    rule(
        has_valid_size_and_depth(&new.input, INPUT_MAX),
        "/input",
        "at most 65536 bytes as compact JSON, at most 32 levels deep",
    );
    rule(new.labels.len() <= LABELS_MAX, "/labels", "at most 32 labels");
    for (key, value) in &new.labels {
        let pointer = format!("/labels/{}", key.replace('~', "~0").replace('/', "~1"));
        rule(
            is_line(key, LABEL_MAX) && !key.contains(':'),
            &pointer,
            "a key has 1 to 128 bytes, no ':', no control characters",
        );
        rule(is_line(value, LABEL_MAX), &pointer, "a value has 1 to 128 bytes, no control characters");
    }
    for (key, pointer) in [(&new.unique_key, "/unique_key"), (&new.concurrency_key, "/concurrency_key")] {
        rule(key.as_ref().is_none_or(|k| is_line(k, LABEL_MAX)), pointer, "1 to 128 bytes, no control characters");
    }
    let key = new.idempotency.as_ref().map(|idempotency| &idempotency.key);
    rule(
        key.is_none_or(|k| is_line(k, IDEMPOTENCY_KEY_MAX)),
        "/idempotency_key",
        "1 to 255 bytes, no control characters",
    );
    invalid
}

/// Whether the value has at most `max` bytes and at most [`DEPTH_MAX`] levels.
#[must_use]
pub fn has_valid_size_and_depth(value: &JsonText, max: usize) -> bool {
    value.depth() <= DEPTH_MAX && has_at_most_bytes(value, max)
}

/// Whether the value has at most `max` bytes. Its depth is not checked.
#[must_use]
pub fn has_at_most_bytes(value: &JsonText, max: usize) -> bool {
    value.as_str().len() <= max
}
