//! Where one page ends and the next begins, as text that the client sends back.

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

/// On which side of the key the page lies, in the order of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    After,
    Before,
}

/// A place in one list. The key is the position of a `Created`, so it stays valid while tasks are added or cease to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) order: Order,
    pub(super) side: Side,
    pub(super) key: Position,
    /// Fingerprint of the list's filter.
    pub(super) filter: u64,
}

/// The text is no cursor, or it belongs to a list with another filter or order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cursor does not belong to this list: begin at the first page")]
pub struct BadCursor;

/// One byte of flags, key, fingerprint, four bytes of checksum.
const LEN: usize = 1 + 8 + 8 + 4;
/// Version of the format, in the upper bits of the flags.
const VERSION: u8 = 1 << 2;

impl Cursor {
    /// The cursor as text that needs no escape in a URL.
    #[must_use]
    pub fn encode(&self) -> String {
        let body = self.body();
        body.iter().chain(&checksum(&body)).fold(String::with_capacity(2 * LEN), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    /// The cursor of this text.
    ///
    /// # Errors
    /// [`BadCursor`] where [`Cursor::encode`] has not written the text.
    pub fn decode(text: &str) -> Result<Self, BadCursor> {
        if text.len() != 2 * LEN || !text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(BadCursor);
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
            filter: number(9),
        };
        if cursor.encode() == text { Ok(cursor) } else { Err(BadCursor) }
    }

    fn body(&self) -> Vec<u8> {
        let flags = VERSION | u8::from(self.order == Order::Asc) | u8::from(self.side == Side::Before) << 1;
        let mut body = vec![flags];
        body.extend(self.key.0.to_be_bytes());
        body.extend(self.filter.to_be_bytes());
        body
    }
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(body).as_bytes();
    [a, b, c, d]
}
