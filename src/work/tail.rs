//! The end of what an attempt writes.

use std::collections::VecDeque;

use crate::task::limits::TAIL_MAX;

/// Text as it comes; the last [`TAIL_MAX`] bytes of it stay.
#[derive(Debug, Default)]
pub(super) struct Tail {
    kept: VecDeque<u8>,
    dropped: u64,
}

impl Tail {
    pub fn push(&mut self, text: &str) {
        let before = text.len().saturating_sub(TAIL_MAX);
        let text = &text.as_bytes()[before..];
        let over = (self.kept.len() + text.len()).saturating_sub(TAIL_MAX);
        self.kept.drain(..over);
        self.kept.extend(text);
        self.dropped += bytes(before + over);
    }

    /// What is kept, and how many bytes came before it; none where nothing was written. A character that was cut in two
    /// is not kept.
    pub fn text(&self) -> Option<(String, u64)> {
        let cut = self.kept.iter().take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
        let kept: Vec<u8> = self.kept.iter().skip(cut).copied().collect();
        let text = String::from_utf8_lossy(&kept).into_owned();
        (!self.kept.is_empty()).then(|| (text, self.dropped + bytes(cut)))
    }
}

fn bytes(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_whole_and_the_rest_is_counted() {
        let mut tail = Tail::default();
        assert_eq!(tail.text(), None);
        tail.push("begin\n");
        assert_eq!(tail.text(), Some(("begin\n".to_owned(), 0)));
        tail.push(&"x".repeat(TAIL_MAX - 2));
        assert_eq!(tail.text().map(|(text, dropped)| (text.len(), dropped)), Some((TAIL_MAX, 4)));
        tail.push(&"y".repeat(3 * TAIL_MAX));
        let (text, dropped) = tail.text().unwrap();
        assert!(text.bytes().all(|byte| byte == b'y') && text.len() == TAIL_MAX);
        assert_eq!(dropped, 6 + bytes(TAIL_MAX) - 2 + 2 * bytes(TAIL_MAX));
    }

    #[test]
    fn no_character_is_kept_in_part() {
        let mut tail = Tail::default();
        tail.push(&"ä€".repeat(TAIL_MAX));
        let (text, dropped) = tail.text().unwrap();
        assert!(text.starts_with('ä') || text.starts_with('€'));
        assert_eq!(bytes(text.len()) + dropped, 5 * bytes(TAIL_MAX));
    }
}
