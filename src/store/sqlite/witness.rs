//! The witness: how far the log reaches at least, said by a small file beside it, `log.witness`.
//!
//! A write-ahead log that is cut, damaged or missing looks like a shorter one, and `SQLite` opens it without an error. So a
//! second file names an event that is durable: its position, its hash, and the id of the log (epoch). A log that lacks this event
//! is not complete.
//!
//! The file has two records of [`RECORD_BYTES`] each, as text. They are written in turn, so that a write which is interrupted
//! leaves the other one. The record with the higher position counts.

use uuid::Uuid;

use crate::store::Hash;
use crate::task::Position;

/// The space of a record. It is at least as large as the part of the file that a disk writes together.
pub(super) const RECORD_BYTES: usize = 4096;
const RECORDS: usize = 2;
/// The first line of a record. A later version may write another one.
const FIRST_LINE: &str = "taskbell witness 1";

/// An event that is durable in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    /// 0 if the log has no event.
    pub(super) position: Position,
    pub(super) hash: Hash,
    /// The id of the log.
    pub(super) epoch: Uuid,
}

/// What the file of the witness holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WitnessContents {
    /// There is no file.
    Missing,
    /// No record of the file is valid.
    Damaged,
    /// `next` is the record that is written next: 0 or 1.
    Valid { witness: Witness, next: usize },
}

impl Witness {
    /// The bytes of a record.
    pub(super) fn to_record(self) -> [u8; RECORD_BYTES] {
        let Self { position, hash, epoch } = self;
        let fields = format!("{FIRST_LINE}\nepoch {epoch}\nposition {position}\nhash {hash}\n");
        let text = format!("{fields}checksum {}\n", blake3::hash(fields.as_bytes()).to_hex());
        let mut record = [b' '; RECORD_BYTES];
        record[..text.len()].copy_from_slice(text.as_bytes());
        record[RECORD_BYTES - 1] = b'\n';
        record
    }

    /// `None` if the bytes are not a valid record.
    fn of_record(record: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(record).ok()?;
        let (fields, rest) = text.split_at_checked(text.find("checksum ")?)?;
        let checksum = rest.strip_prefix("checksum ")?.lines().next()?;
        if blake3::hash(fields.as_bytes()).to_hex().as_str() != checksum {
            return None;
        }
        let mut lines = fields.lines();
        let is_known = lines.next()? == FIRST_LINE;
        let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
        let (epoch, position, hash) = (value("epoch")?, value("position")?, value("hash")?);
        is_known.then_some(Self {
            position: Position(position.parse().ok()?),
            hash: hash.parse().ok()?,
            epoch: epoch.parse().ok()?,
        })
    }

    /// The bytes of a new file.
    pub(super) fn to_file(self) -> Vec<u8> {
        self.to_record().repeat(RECORDS)
    }
}

impl WitnessContents {
    pub(super) fn of_file(bytes: &[u8]) -> Self {
        let mut records = bytes.chunks(RECORD_BYTES).map(Witness::of_record).chain([None, None]).take(RECORDS);
        match [records.next().flatten(), records.next().flatten()] {
            [Some(first), Some(second)] if first.position < second.position => Self::Valid { witness: second, next: 0 },
            [Some(first), _] => Self::Valid { witness: first, next: 1 },
            [None, Some(second)] => Self::Valid { witness: second, next: 0 },
            [None, None] => Self::Damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(position: u64) -> Witness {
        let hash = Hash(*blake3::hash(&position.to_be_bytes()).as_bytes());
        Witness { position: Position(position), hash, epoch: Uuid::from_u128(7) }
    }

    /// A file whose first record has the position 12 and whose second one has the position 13.
    fn file() -> Vec<u8> {
        [witness(12).to_record(), witness(13).to_record()].concat()
    }

    #[test]
    fn the_record_with_the_higher_position_counts_and_the_other_one_is_written_next() {
        let valid = |position, next| WitnessContents::Valid { witness: witness(position), next };
        assert_eq!(WitnessContents::of_file(&file()), valid(13, 0));
        let turned = [witness(14).to_record(), witness(13).to_record()].concat();
        assert_eq!(WitnessContents::of_file(&turned), valid(14, 1));
        assert_eq!(WitnessContents::of_file(&witness(u64::MAX).to_file()), valid(u64::MAX, 1));
        assert_eq!(WitnessContents::of_file(b""), WitnessContents::Damaged);
    }

    #[test]
    fn a_file_with_any_flipped_byte_or_of_any_length_names_no_other_event() {
        let file = file();
        let is_safe = |bytes: &[u8]| match WitnessContents::of_file(bytes) {
            WitnessContents::Valid { witness: found, .. } => found == witness(13) || found == witness(12),
            WitnessContents::Damaged => bytes.len() < RECORD_BYTES,
            WitnessContents::Missing => false,
        };
        for at in (0..file.len()).filter(|at| at % RECORD_BYTES < 260 || at % 97 == 0) {
            let mut flipped = file.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(is_safe(&flipped), "byte {at}");
        }
        assert!((0..file.len()).step_by(11).all(|length| is_safe(&file[..length])));
        let neither = file.iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
        assert_eq!(WitnessContents::of_file(&neither), WitnessContents::Damaged);
    }
}
