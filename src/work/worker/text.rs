//! Text of a handler, made fit to be recorded.

use crate::task::limits::is_line_character;

/// `text` as one line of at most `max` bytes: control characters become spaces, the ends are trimmed. `None` where nothing
/// visible is left.
pub(in crate::work) fn line(text: &str, max: usize) -> Option<String> {
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
