//! Everything that is printed. Text from a server is escaped first, so that it can't control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;

use taskbell::Timestamp;

use super::failure::Failure;

/// Whether this character controls the terminal instead of being shown: control characters, and those that change the
/// direction of the text.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text with every character that controls the terminal as an escape.
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

/// The JSON text with every character that controls the terminal as a JSON escape. The value is the same.
///
/// # Errors
/// The text is not JSON.
pub fn escape_json(text: &str) -> Result<String, Failure> {
    let raw: &RawValue = serde_json::from_str(text)
        .map_err(|error| Failure::failed(format!("the server's answer is not JSON: {error}")))?;
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

/// Prints one line on stdout as it is: the caller escapes text from a server first.
///
/// # Errors
/// stdout can't be written. If its reader has closed the pipe, the failure has exit code 0 and no sentence.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Prints an answer of the API on one line of stdout.
///
/// # Errors
/// It is not JSON, or stdout can't be written.
pub fn json(text: &str) -> Result<(), Failure> {
    line(&escape_json(text)?)
}

/// Prints one line on stderr, escaped. An error of stderr is ignored: there is no other place to report it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape(text));
}

/// Prints a failure on stderr, the first time. With `json`, the server's answer goes to stdout.
pub fn failure(failure: &mut Failure, json: bool) {
    failure_of("", failure, json);
}

/// Prints a failure like [`failure`], with the subject that it is about in front.
pub fn failure_of(subject: &str, failure: &mut Failure, json: bool) {
    if let Some(answer) = failure.take_answer().filter(|_| json) {
        // The sentence is printed all the same.
        let _ = self::json(&answer);
    }
    if let Some(sentence) = failure.take_sentence() {
        let colon = if subject.is_empty() { "" } else { ": " };
        note(&format!("error: {subject}{colon}{sentence}"));
    }
}

/// A field as text, escaped; empty if the field is missing or null.
#[must_use]
pub fn text(value: &Value, field: &str) -> String {
    match &value[field] {
        Value::Null => String::new(),
        Value::String(text) => escape(text),
        other => escape(&other.to_string()),
    }
}

/// The first `max` characters of the text; the last of them is `…` if text is missing.
#[must_use]
pub fn truncate(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// A time field to the second, in UTC: `2026-11-22 15:04:05Z`; empty if it is null.
#[must_use]
pub fn time(value: &Value, field: &str) -> String {
    let text = text(value, field);
    match (text.get(..10), text.get(11..19)) {
        (Some(day), Some(time)) if text.parse::<Timestamp>().is_ok() => format!("{day} {time}Z"),
        _ => text,
    }
}

/// A duration as people write it: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} min", s / 3600, s % 3600 / 60),
    }
}

/// A field of milliseconds as a duration; empty if it is null.
#[must_use]
pub fn millis(value: &Value, field: &str) -> String {
    value[field].as_u64().map(|ms| self::duration(Duration::from_millis(ms))).unwrap_or_default()
}

/// A whole number with a comma after each thousand: `2,340`.
#[must_use]
pub fn thousands(n: u64) -> String {
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

/// How a task ended or what it is doing now, in one phrase; may be empty.
#[must_use]
pub fn summary(task: &Value) -> String {
    let outcome = &task["outcome"];
    if outcome.is_object() {
        return outcome_phrase(task, outcome);
    }
    match task["status"].as_str().unwrap_or_default() {
        "scheduled" => format!("waits until {}", time(task, "run_at")),
        "retrying" => format!("next attempt at {}", time(task, "retry_at")),
        "queued" => match task["waiting_for"].as_str() {
            Some("worker") => "waits for a worker that offers this kind".into(),
            Some("limit") => "waits for its turn".into(),
            Some("paused") => "its queue is paused".into(),
            _ => String::new(),
        },
        "cancelling" => match text(&task["cancel"], "stopping_after") {
            step if step.is_empty() => join([progress(task), "asked to stop".into()]),
            step => join([progress(task), format!("stops after {step}")]),
        },
        _ => progress(task),
    }
}

fn outcome_phrase(task: &Value, outcome: &Value) -> String {
    let error = &outcome["error"];
    let words = if error.is_object() {
        format!("{}: {}", text(error, "code"), text(error, "message"))
    } else {
        text(outcome, "message")
    };
    join([words, verdict(&task["cancel"]).to_owned()])
}

/// The outcome of a cancel that did not end as it usually does; empty if it did.
#[must_use]
pub fn verdict(cancel: &Value) -> &'static str {
    match cancel["verdict"].as_str() {
        Some("finished_first") => "finished before the cancel took effect",
        Some("failed_first") => "failed before the cancel took effect",
        Some("forced") => "ended by force: nobody saw the code stop",
        _ => "",
    }
}

/// `42 %, file 812 of 2,340`; empty if no progress was reported.
#[must_use]
pub fn progress(task: &Value) -> String {
    let progress = &task["progress"];
    let percent = progress["fraction"].as_f64().map(|fraction| format!("{:.0} %", (fraction * 100.0).floor()));
    join([percent.unwrap_or_default(), text(progress, "message")])
}

/// The parts that are not empty, separated by commas.
fn join<const N: usize>(parts: [String; N]) -> String {
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
