//! The end of what an attempt writes.

use std::collections::VecDeque;

use crate::task::limits::TAIL_MAX;

/// Text as it comes; the last [`TAIL_MAX`] bytes of it stay.
#[derive(Debug, Default)]
pub(in crate::work) struct Tail {
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
