//! The headers of a client's websocket frames (RFC 6455, section 5.2). A frame is judged as soon as the deciding byte of its
//! header has arrived, before its body.

use actix_web::web::{Buf as _, Bytes};

/// The longest header: two bytes, a length of eight bytes, and the mask.
const HEADER_MAX: usize = 14;
/// The longest body of a control frame.
const CONTROL_MAX: u64 = 125;

const LAST: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// Why the rest of a client's frames is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// The bytes break the protocol. The text says how.
    Protocol(&'static str),
    /// A message is longer than the limit.
    TooLong,
}

/// A complete header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) bytes: Bytes,
    /// How many bytes of body follow.
    pub(super) body: usize,
}

/// Reads the headers of the frames of one socket.
#[derive(Debug)]
pub(super) struct HeaderReader {
    /// The first bytes of a header that is not complete.
    bytes: [u8; HEADER_MAX],
    count: usize,
    /// How many bytes the earlier fragments of the present message have. `None` between two messages.
    message: Option<u64>,
    /// How many bytes a message may have.
    message_max: u64,
}

impl HeaderReader {
    pub(super) fn new(message_max: u64) -> Self {
        Self { bytes: [0; HEADER_MAX], count: 0, message: None, message_max }
    }

    /// Takes the rest of a header from the beginning of `arrived`. Returns `None` if the header is still not complete; then
    /// `arrived` is empty.
    ///
    /// # Errors
    /// [`Violation`], as soon as it is known.
    pub(super) fn read(&mut self, arrived: &mut Bytes) -> Result<Option<Header>, Violation> {
        while !arrived.is_empty() {
            self.bytes[self.count] = arrived.get_u8();
            self.count += 1;
            if self.count == 2 {
                self.check_start()?;
            }
            if self.count == self.length_end() {
                self.check_length()?;
            }
            if self.count == self.header_end() {
                return Ok(Some(self.complete()));
            }
        }
        Ok(None)
    }

    fn is_control(&self) -> bool {
        self.bytes[0] & CONTROL != 0
    }

    fn is_last(&self) -> bool {
        self.bytes[0] & LAST != 0
    }

    fn short_length(&self) -> u8 {
        self.bytes[1] & LENGTH
    }

    /// How many bytes the header has up to the end of the length. Known after two bytes.
    fn length_end(&self) -> usize {
        match self.short_length() {
            _ if self.count < 2 => 2,
            127 => 10,
            126 => 4,
            _ => 2,
        }
    }

    fn header_end(&self) -> usize {
        self.length_end() + 4
    }

    /// How many bytes the body has. Known at the end of the length.
    fn length(&self) -> u64 {
        match self.short_length() {
            short @ ..126 => short.into(),
            _ => self.bytes[2..self.length_end()].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        }
    }

    fn check_start(&self) -> Result<(), Violation> {
        let wrong = |what| Err(Violation::Protocol(what));
        let is_within_message = self.message.is_some();
        match self.bytes[0] & OPCODE {
            _ if self.bytes[0] & RESERVED != 0 => wrong("a reserved bit is set"),
            _ if self.bytes[1] & MASKED == 0 => wrong("a client must mask its frames"),
            0 if !is_within_message => wrong("a fragment belongs to no message"),
            1 | 2 if is_within_message => wrong("a message begins within another"),
            8..=10 if !self.is_last() => wrong("a control frame can't be a fragment"),
            8..=10 if u64::from(self.short_length()) > CONTROL_MAX => wrong("a control frame has at most 125 bytes"),
            0..=2 | 8..=10 => Ok(()),
            _ => wrong("there is no such kind of frame"),
        }
    }

    fn check_length(&self) -> Result<(), Violation> {
        let length = self.length();
        if length > i64::MAX as u64 {
            return Err(Violation::Protocol("a length has at most 63 bits"));
        }
        let of_message = self.message.unwrap_or_default().saturating_add(length);
        if !self.is_control() && of_message > self.message_max { Err(Violation::TooLong) } else { Ok(()) }
    }

    fn complete(&mut self) -> Header {
        let length = self.length();
        let bytes = Bytes::copy_from_slice(&self.bytes[..self.count]);
        if !self.is_control() {
            self.message = if self.is_last() { None } else { Some(self.message.unwrap_or_default() + length) };
        }
        self.count = 0;
        // The length is at most that of a message or of a control frame.
        Header { bytes, body: usize::try_from(length).unwrap_or(usize::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1000;
    const MASK: [u8; 4] = [1, 2, 3, 4];

    fn read(reader: &mut HeaderReader, bytes: &[u8]) -> Result<Option<Header>, Violation> {
        reader.read(&mut Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn a_header_is_read_from_any_pieces_and_the_body_is_left() {
        for (start, body) in
            [(&[0x81, 0x85][..], 5), (&[0x82, 0xfe, 1, 0], 256), (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 1, 0], 256)]
        {
            let header = [start, &MASK].concat();
            for cut in 0..header.len() {
                let mut reader = HeaderReader::new(MAX);
                assert_eq!(read(&mut reader, &header[..cut]), Ok(None));
                let mut rest = Bytes::from([&header[cut..], b"body"].concat());
                let complete = reader.read(&mut rest).unwrap().unwrap();
                assert_eq!((&complete.bytes[..], complete.body, &rest[..]), (&header[..], body, &b"body"[..]));
            }
        }
    }

    #[test]
    fn the_fragments_of_a_message_are_added_up_and_control_frames_between_them_are_not() {
        let mut reader = HeaderReader::new(MAX);
        let mut next = |first, length: u8| read(&mut reader, &[&[first, 0x80 | length], &MASK[..]].concat());
        for _ in 0..2 {
            assert_eq!(next(0x01, 100).unwrap().unwrap().body, 100);
            for _ in 0..8 {
                assert_eq!(next(0x89, 125).unwrap().unwrap().body, 125);
                assert_eq!(next(0x00, 100).unwrap().unwrap().body, 100);
            }
            assert_eq!(next(0x80, 100).unwrap().unwrap().body, 100);
        }
        assert!(matches!(next(0x80, 1), Err(Violation::Protocol(_))), "the message is complete");
    }

    #[test]
    fn a_message_is_too_long_when_its_length_is_known() {
        let mut reader = HeaderReader::new(MAX);
        assert_eq!(read(&mut reader, &[0x81, 0xfe, 3]), Ok(None));
        assert_eq!(read(&mut reader, &[0xe9]), Err(Violation::TooLong));
    }
}
