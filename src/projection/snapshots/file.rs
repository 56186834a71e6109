//! The file of a snapshot.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | `taskbell views\n\0` |
//! | 8 | the fingerprint of the code that has made the views |
//! | 16 | the epoch of the log |
//! | 8 | the position of the last event in the views |
//! | 32 | the hash of that event |
//! | 8 | the latest time of an event, in microseconds; the smallest number if there is no event |
//! | 4 and so many | the length of a part, and the part; a length of 0 ends the parts |
//! | 32 | BLAKE3 of all bytes before it |
//!
//! Numbers are little-endian. Only the program that has written a file reads it: another fingerprint makes the file useless.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use uuid::Uuid;

use crate::store::Hash;
use crate::task::{Position, Timestamp};
use crate::views::Views;
use crate::views::saved::{Capture, Restorer};

const MAGIC: &[u8; 16] = b"taskbell views\n\0";
/// Changes with the code of the views, the rules and the events. `build.rs` computes it.
const FINGERPRINT: &str = env!("TASKBELL_VIEWS_FINGERPRINT");
const FINGERPRINT_BYTES: usize = 8;
const HEADER_BYTES: usize = 16 + FINGERPRINT_BYTES + 16 + 8 + 32 + 8;
/// The longest part. The first one contains all idempotency keys.
const PART_MAX: u32 = 1 << 30;

/// What a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Uuid,
    pub(super) position: Position,
    /// The hash of the event at that position.
    pub(super) hash: Hash,
    /// The latest time of an event in the views.
    pub(super) latest: Option<Timestamp>,
}

impl Header {
    fn to_bytes(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let fingerprint = u64::from_str_radix(FINGERPRINT, 16).unwrap_or_default();
        bytes.extend(fingerprint.to_le_bytes());
        bytes.extend(self.epoch.as_bytes());
        bytes.extend(self.position.0.to_le_bytes());
        bytes.extend(self.hash.0);
        bytes.extend(self.latest.map_or(i64::MIN, Timestamp::as_micros).to_le_bytes());
        bytes
    }

    /// `None` if another program has written the header.
    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let known = Self { epoch: Uuid::nil(), position: Position(0), hash: Hash::ZERO, latest: None }.to_bytes();
        let (own, rest) = bytes.split_at(MAGIC.len() + FINGERPRINT_BYTES);
        let (epoch, rest) = rest.split_first_chunk()?;
        let (position, rest) = rest.split_first_chunk()?;
        let (hash, rest) = rest.split_first_chunk()?;
        let latest = i64::from_le_bytes(rest.try_into().ok()?);
        (own == &known[..own.len()]).then(|| Self {
            epoch: Uuid::from_bytes(*epoch),
            position: Position(u64::from_le_bytes(*position)),
            hash: Hash(*hash),
            latest: (latest != i64::MIN).then(|| Timestamp::from_micros(latest)),
        })
    }
}

/// Writes a snapshot, and makes the contents of the file durable.
///
/// # Errors
/// The file can't be written. Then it may be there in part.
pub(super) fn write(path: &Path, header: Header, capture: &Capture) -> io::Result<()> {
    let mut out =
        Hashing { inner: BufWriter::with_capacity(1 << 20, File::create_new(path)?), hasher: blake3::Hasher::new() };
    out.write_all(&header.to_bytes())?;
    for part in capture.parts() {
        let part = part.ok_or_else(|| io::Error::other("the views can't be written as bytes"))?;
        let length = u32::try_from(part.len()).ok().filter(|length| *length <= PART_MAX);
        let length = length.ok_or_else(|| io::Error::other("a part of the views is too long"))?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&part)?;
    }
    out.write_all(&0_u32.to_le_bytes())?;
    let Hashing { mut inner, hasher } = out;
    inner.write_all(hasher.finalize().as_bytes())?;
    inner.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

/// The header of this file; `None` if the file is no snapshot that this program has written.
pub(super) fn read_header(path: &Path) -> Option<Header> {
    let mut bytes = [0; HEADER_BYTES];
    File::open(path).ok()?.read_exact(&mut bytes).ok()?;
    Header::from_bytes(&bytes)
}

/// The views in this file; `None` if the file is not complete and unchanged.
pub(super) fn read(path: &Path) -> Option<Views> {
    let file = File::open(path).ok()?;
    let mut input = Hashing { inner: BufReader::with_capacity(1 << 20, file), hasher: blake3::Hasher::new() };
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).ok()?;
    let header = Header::from_bytes(&header)?;
    let (mut restorer, mut part) = (None, Vec::new());
    while input.read_part(&mut part)? {
        match &mut restorer {
            None => restorer = Some(Restorer::new(&part)?),
            Some(restorer) => restorer.add_block(&part)?,
        }
    }
    let Hashing { mut inner, hasher } = input;
    let mut checksum = [0; 32];
    inner.read_exact(&mut checksum).ok()?;
    let is_at_end = inner.read(&mut [0]).ok()? == 0;
    let views = restorer?.finish()?;
    (is_at_end && hasher.finalize() == checksum && views.position() == header.position).then_some(views)
}

/// Hashes everything that is written or read.
struct Hashing<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T: Write> Hashing<T> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.inner.write_all(bytes)
    }
}

impl<T: Read> Hashing<T> {
    fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.hasher.update(bytes);
        Ok(())
    }

    /// Reads the next part. Returns whether there was one; `None` if it isn't complete. Memory is taken as the bytes are read, so a
    /// wrong length takes no more than the file has.
    fn read_part(&mut self, part: &mut Vec<u8>) -> Option<bool> {
        let mut length = [0; 4];
        self.read_exact(&mut length).ok()?;
        let length = u32::from_le_bytes(length);
        part.clear();
        let read = (&mut self.inner).take(length.into()).read_to_end(part).ok()?;
        self.hasher.update(part);
        (length <= PART_MAX && read as u64 == u64::from(length)).then_some(length > 0)
    }
}
