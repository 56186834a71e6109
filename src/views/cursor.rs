//! Cursors: where a page of a list begins. The server sends a cursor as text, and the client sends it back.

use std::fmt::Write;

use crate::task::Position;

/// The order of a list, by creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// The newest first.
    #[default]
    Desc,
    /// The oldest first.
    Asc,
}

/// Whether the page lies after or before the cursor's key, in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    After,
    Before,
}

/// The start of a page in one list. The key is the position of a `Created`. So the cursor stays valid if tasks are added, or
/// if tasks don't match the filter any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) order: Order,
    pub(super) side: Side,
    pub(super) key: Position,
    /// The [fingerprint](super::Filter::fingerprint) of the list's filter.
    pub(super) fingerprint: u64,
}

/// The text is not a cursor, or the cursor belongs to a list with another filter or order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this list: begin at the first page")]
pub struct InvalidCursor;

/// The length of an encoded cursor in bytes: 1 for the flags, 8 for the key, 8 for the fingerprint, 4 for the checksum.
const LEN: usize = 1 + 8 + 8 + 4;
/// The version of the format, in the upper bits of the flags. Bit 0 is the order, bit 1 is the side.
const VERSION: u8 = 1 << 2;

impl Cursor {
    /// The cursor as lower-case hexadecimal text.
    #[must_use]
    pub fn encode(&self) -> String {
        let body = self.body();
        body.iter().chain(&checksum(&body)).fold(String::with_capacity(2 * LEN), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// Reads a text that [`Cursor::encode`] has written.
    ///
    /// # Errors
    /// [`InvalidCursor`] for any other text.
    pub fn decode(text: &str) -> Result<Self, InvalidCursor> {
        if text.len() != 2 * LEN || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(InvalidCursor);
        }
        let mut bytes = [0; LEN];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digits
                .iter()
                .fold(0, |sum, digit| sum * 16 + if *digit > b'9' { digit - b'a' + 10 } else { digit - b'0' });
        }
        let number = |from: usize| bytes[from..from + 8].iter().fold(0, |sum: u64, byte| (sum << 8) | u64::from(*byte));
        let flags = bytes[0];
        let cursor = Self {
            order: if flags & 1 == 0 { Order::Desc } else { Order::Asc },
            side: if flags & 2 == 0 { Side::After } else { Side::Before },
            key: Position(number(1)),
            fingerprint: number(9),
        };
        if cursor.encode() == text { Ok(cursor) } else { Err(InvalidCursor) }
    }

    /// The encoded cursor without its checksum.
    fn body(&self) -> Vec<u8> {
        let flags = VERSION | u8::from(self.order == Order::Asc) | u8::from(self.side == Side::Before) << 1;
        let mut body = vec![flags];
        body.extend(self.key.0.to_be_bytes());
        body.extend(self.fingerprint.to_be_bytes());
        body
    }
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(body).as_bytes();
    [a, b, c, d]
}
