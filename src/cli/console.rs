//! Functions that print on stdout and stderr, and functions that format values for people. Text from a server is escaped
//! before it is printed, so that it can't control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use taskbell::Timestamp;

use super::command_error::CommandError;

/// Whether the character is a control character, separates lines, or changes the direction of the text. The pages show the
/// same characters as marks (`ui/visible.js`).
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text, with each control character replaced by an escape like `\u{1b}`.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            c if is_control(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// The JSON text, with each control character replaced by a JSON escape like `\u001b`. The JSON value stays the same.
///
/// # Errors
/// The text is not JSON.
pub fn escape_json(text: &str) -> Result<String, CommandError> {
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|error| CommandError::failed(format!("the server's response is not JSON: {error}")))?;
    let mut safe = String::with_capacity(text.len());
    for c in raw.get().chars() {
        if c == '\u{7f}' || (!c.is_ascii() && is_control(c)) {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Ok(safe)
}

/// Prints one line on stdout, without escaping: the caller must escape text from a server.
///
/// # Errors
/// Writing to stdout failed. If the reader of stdout has closed the pipe, the failure has exit code 0 and no sentence.
pub fn print_line(text: &str) -> Result<(), CommandError> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Prints the body of a response of the API on one line of stdout.
///
/// # Errors
/// The text is not JSON, or writing to stdout failed.
pub fn print_json(text: &str) -> Result<(), CommandError> {
    print_line(&escape_json(text)?)
}

/// Prints one line on stderr, escaped. An error while writing is ignored, because it can't be reported anywhere else.
pub fn print_to_stderr(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape(text));
}

/// Prints the failure's sentence on stderr and, with `json`, the server's error response on stdout. Does nothing for a
/// failure that was already printed.
pub fn print_failure(failure: &mut CommandError, json: bool) {
    print_failure_of("", failure, json);
}

/// Like [`print_failure`], with `subject` and a colon before the sentence; an empty subject adds nothing.
pub fn print_failure_of(subject: &str, failure: &mut CommandError, json: bool) {
    if let Some(body) = failure.take_response_body().filter(|_| json) {
        // The sentence is printed even if stdout can't be written.
        let _ = print_json(&body);
    }
    if let Some(sentence) = failure.take_message() {
        let colon = if subject.is_empty() { "" } else { ": " };
        print_to_stderr(&format!("error: {subject}{colon}{sentence}"));
    }
}

/// The field of a JSON object as text, escaped; empty if the field is missing or null.
#[must_use]
pub fn text_field(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    }
}

/// The text, shortened to `max` characters; a shortened text ends with `…`.
#[must_use]
pub fn truncate(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// The field of a JSON object as a time in UTC, without fractions of a second: `2026-11-22 15:04:05Z`; empty if it is null.
#[must_use]
pub fn time_field(value: &Value, field: &str) -> String {
    let text = text_field(value, field);
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) if text.parse::<Timestamp>().is_ok() => format!("{day} {time}Z"),
        _ => text,
    }
}

/// The duration for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// The field of a JSON object, a number of milliseconds, as a duration for people; empty if it is null.
#[must_use]
pub fn duration_field(value: &Value, field: &str) -> String {
    value[field].as_u64().map(|ms| format_duration(Duration::from_millis(ms))).unwrap_or_default()
}

/// A whole number with a comma after each thousand: `2,340`.
#[must_use]
pub fn format_count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// One phrase about the task: its outcome if it has ended, else what it waits for or its progress; may be empty.
#[must_use]
pub fn task_summary(task: &Value) -> String {
    let outcome = &task["outcome"];
    if outcome.is_object() {
        return outcome_phrase(task, outcome);
    }
    match task["status"].as_str().unwrap_or_default() {
        "scheduled" => format!("waits until {}", time_field(task, "run_at")),
        "retrying" => format!("next attempt at {}", time_field(task, "retry_at")),
        "queued" => match task["waiting_for"].as_str() {
            Some("worker") => "waits for a worker that offers this kind".into(),
            Some("limit") => "waits: a limit of running tasks is reached".into(),
            Some("paused") => "its queue is paused".into(),
            _ => String::new(),
        },
        "cancelling" => match text_field(&task["cancel"], "stopping_after") {
            step if step.is_empty() => join_non_empty([progress_summary(task), "asked to stop".into()]),
            step => join_non_empty([progress_summary(task), format!("stops after {step}")]),
        },
        _ => progress_summary(task),
    }
}

fn outcome_phrase(task: &Value, outcome: &Value) -> String {
    let error = &outcome["error"];
    let description = if error.is_object() {
        format!("{}: {}", text_field(error, "code"), text_field(error, "message"))
    } else {
        text_field(outcome, "message")
    };
    join_non_empty([description, cancel_verdict(&task["cancel"]).to_owned()])
}

/// A phrase for a cancel that did not stop the task in the usual way; empty if it did, or if the cancel has no verdict yet.
#[must_use]
pub fn cancel_verdict(cancel: &Value) -> &'static str {
    match cancel["verdict"].as_str() {
        Some("finished_first") => "finished before the cancel took effect",
        Some("failed_first") => "failed before the cancel took effect",
        Some("forced") => "ended by force; the worker did not confirm that it stopped",
        _ => "",
    }
}

/// The progress of the task, like `42 %, file 812 of 2,340`; empty if no progress was reported.
#[must_use]
fn progress_summary(task: &Value) -> String {
    let progress = &task["progress"];
    let percent = progress["fraction"].as_f64().map(|fraction| format!("{:.0} %", (fraction * 100.0).floor()));
    join_non_empty([percent.unwrap_or_default(), text_field(progress, "message")])
}

/// The parts that are not empty, separated by commas.
fn join_non_empty<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
