//! The end of an attempt's output.

use std::collections::VecDeque;

use crate::task::limits::OUTPUT_TAIL_MAX;

/// Keeps the last [`OUTPUT_TAIL_MAX`] bytes of what is appended.
#[derive(Debug, Default)]
pub(in crate::work) struct OutputTail {
    kept: VecDeque<u8>,
    dropped: u64,
}

impl OutputTail {
    pub fn append(&mut self, text: &str) {
        let skipped = text.len().saturating_sub(OUTPUT_TAIL_MAX);
        let text = &text.as_bytes()[skipped..];
        let excess = (self.kept.len() + text.len()).saturating_sub(OUTPUT_TAIL_MAX);
        self.kept.drain(..excess);
        self.kept.extend(text);
        self.dropped += bytes(skipped + excess);
    }

    /// The kept text and the number of bytes dropped before it; `None` where nothing was appended. A character that was
    /// cut in two is dropped as a whole.
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
