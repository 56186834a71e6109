//! Shortens a handler's text to the limits of recorded events.

use crate::task::limits::is_line_character;

/// Makes one line of at most `max` bytes from the text: control characters become spaces, and spaces at both ends are
/// removed. `None` if the result is empty.
pub(in crate::work) fn single_line(text: &str, max: usize) -> Option<String> {
    let text = text.trim();
    let mut out = String::with_capacity(text.len().min(max));
    for c in text.chars().map(|c| if is_line_character(c) { c } else { ' ' }) {
        if out.len() + c.len_utf8() > max {
            break;
        }
        out.push(c);
    }
    let trimmed = out.trim();
    (!trimmed.is_empty()).then(|| trimmed.to_owned())
}
