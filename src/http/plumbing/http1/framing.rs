//! Where the body of a request ends.

/// The longest extension of a chunk, and the longest trailer section of a body, in bytes.
const EXTRA_MAX: u16 = 4096;

/// The part of a request's body that has not arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many more bytes; 0 if the body is complete.
    Length(u64),
    /// Chunks, up to the empty one and its trailers.
    Chunked(Chunks),
    /// Everything that still arrives, after an upgrade of the connection.
    Endless,
}

/// A chunked body is malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedChunk;

/// A position inside of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks {
    state: State,
    /// The bytes of the chunk that have not arrived.
    left: u64,
    /// The bytes of the present extension, or of all trailers.
    extra: u16,
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    SizeStart,
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Complete,
}

impl Framing {
    /// The start of a chunked body.
    pub const CHUNKED: Self = Self::Chunked(Chunks { state: State::SizeStart, left: 0, extra: 0 });

    /// Whether the whole body has arrived.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunks) => chunks.state == State::Complete,
            Self::Endless => false,
        }
    }

    /// Counts the bytes that belong to the body: the first so many of those that have arrived.
    ///
    /// # Errors
    /// [`MalformedChunk`]: the end of the body can't be found.
    pub fn advance(&mut self, arrived: &[u8]) -> Result<usize, MalformedChunk> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(arrived.len());
                *left -= count as u64;
                Ok(count)
            }
            Self::Chunked(chunks) => chunks.advance(arrived),
            Self::Endless => Ok(arrived.len()),
        }
    }
}

impl Chunks {
    fn advance(&mut self, arrived: &[u8]) -> Result<usize, MalformedChunk> {
        let mut count = 0;
        while count < arrived.len() && self.state != State::Complete {
            if self.state == State::Data {
                let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(arrived.len() - count);
                self.left -= skipped as u64;
                count += skipped;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
            } else {
                self.state = self.next(arrived[count])?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// The state after this byte, which is no byte of a chunk's data.
    fn next(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        match (self.state, byte) {
            (State::SizeStart, _) => {
                (self.left, self.extra) = (0, 0);
                self.digit(byte)
            }
            (State::Size, b';') => Ok(State::Extension),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size, _) => self.digit(byte),
            (State::Extension, _) => self.text(byte, State::Extension),
            (State::SizeLf, b'\n') => Ok(if self.left == 0 { State::TrailerStart } else { State::Data }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeStart),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::TrailerStart | State::Trailer, _) => self.text(byte, State::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::EndLf, b'\n') => Ok(State::Complete),
            _ => Err(MalformedChunk),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, MalformedChunk> {
        let digit = char::from(byte).to_digit(16).ok_or(MalformedChunk)?;
        self.extra += 1;
        if self.extra > 16 {
            return Err(MalformedChunk);
        }
        self.left = self.left << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn text(&mut self, byte: u8, state: State) -> Result<State, MalformedChunk> {
        self.extra += 1;
        let is_text = byte == b'\t' || !byte.is_ascii_control();
        if is_text && self.extra <= EXTRA_MAX { Ok(state) } else { Err(MalformedChunk) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the bytes belong to a chunked body, with the bytes arriving in parts of this length.
    fn length(text: &str, part: usize) -> Result<Option<usize>, MalformedChunk> {
        let mut framing = Framing::CHUNKED;
        let mut total = 0;
        for bytes in text.as_bytes().chunks(part) {
            let count = framing.advance(bytes)?;
            total += count;
            if framing.is_complete() {
                return Ok(Some(total));
            }
            assert_eq!(count, bytes.len());
        }
        Ok(None)
    }

    #[test]
    fn a_chunked_body_ends_after_its_empty_chunk_and_trailers() {
        for (text, wanted) in [
            ("0\r\n\r\nGET", Some(5)),
            ("3\r\nabc\r\n0\r\n\r\n", Some(13)),
            ("A;x=y;\"z\"\r\n0123456789\r\n00\r\n\r\n", Some(29)),
            ("1\r\na\r\n0\r\nX: y\r\nZ: 1\r\n\r\nrest", Some(23)),
            ("0\r\n", None),
            ("3\r\nab", None),
            ("fffffffffffffffe\r\nab", None),
        ] {
            for part in [1, 2, 5, 100] {
                assert_eq!(length(text, part), Ok(wanted), "{text:?} in parts of {part}");
            }
        }
    }

    #[test]
    fn a_malformed_chunk_is_recognised_at_its_first_wrong_byte() {
        let long = format!("1;{}", "x".repeat(5_000));
        let trailers = format!("0\r\n{}", "X: y\r\n".repeat(2_000));
        for text in [
            "\r\n",
            "x",
            "-1",
            "+1",
            " 1",
            "1 \r\n",
            "1\n",
            "1\ra",
            "1\r\nab",
            "1\r\na\n",
            "0\r\n\ra",
            "1;\n",
            "0x1",
            "0\r\nX\n",
            "00000000000000001",
            &long,
            &trailers,
        ] {
            for part in [1, 3, 10_000] {
                assert_eq!(length(text, part), Err(MalformedChunk), "{text:?} in parts of {part}");
            }
        }
    }

    #[test]
    fn a_body_of_a_known_length_ends_after_so_many_bytes() {
        let mut framing = Framing::Length(5);
        assert_eq!((framing.advance(b"abc"), framing.is_complete()), (Ok(3), false));
        assert_eq!((framing.advance(b"defg"), framing.is_complete()), (Ok(2), true));
    }
}
