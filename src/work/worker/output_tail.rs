//! The tail of an attempt's output: its last bytes.

use std::collections::VecDeque;

use crate::task::limits::OUTPUT_TAIL_MAX;

/// The last [`OUTPUT_TAIL_MAX`] bytes of the appended text.
#[derive(Debug, Default)]
pub(in crate::work) struct OutputTail {
    bytes: VecDeque<u8>,
    /// How many bytes before `bytes` were dropped.
    dropped_bytes: u64,
}

impl OutputTail {
    /// Appends the text, and drops the oldest bytes if the limit is exceeded.
    pub fn append(&mut self, text: &str) {
        let skipped = text.len().saturating_sub(OUTPUT_TAIL_MAX);
        let text = &text.as_bytes()[skipped..];
        let excess = (self.bytes.len() + text.len()).saturating_sub(OUTPUT_TAIL_MAX);
        self.bytes.drain(..excess);
        self.bytes.extend(text);
        self.dropped_bytes += to_u64(skipped + excess);
    }

    /// Returns the text and the number of bytes that were dropped before it; `None` if nothing was appended. If the first
    /// character is incomplete, its remaining bytes are dropped too.
    pub fn text(&self) -> Option<(String, u64)> {
        let cut = self.bytes.iter().take_while(|byte| **byte & 0b1100_0000 == 0b1000_0000).count();
        let rest: Vec<u8> = self.bytes.iter().skip(cut).copied().collect();
        let text = String::from_utf8_lossy(&rest).into_owned();
        (!self.bytes.is_empty()).then(|| (text, self.dropped_bytes + to_u64(cut)))
    }
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
