//! The bytes of `SQLite`'s write-ahead log (`log.db-wal`): which commits they hold, and whether a frame that is not valid is
//! damage or the end that a power cut leaves.
//!
//! The file is a header and frames, each a page of `log.db` behind a header of its own. All numbers are big-endian.
//!
//! | bytes | header of the file | header of a frame |
//! |---|---|---|
//! | 0..4 | the magic number; its lowest bit is the order of bytes in checksums | the number of the page |
//! | 4..8 | the version of the file's format | the size of `log.db` in pages, in the last frame of a commit; otherwise 0 |
//! | 8..16 | the size of a page; how often the file was begun anew | the two salts of the file's header |
//! | 16..24 | two salts, which change when the file is begun anew | the checksum |
//! | 24..32 | the checksum of the bytes before it | – |
//!
//! The checksum of a frame continues the one of the frame before it, over 8 bytes of the header and over the page. `SQLite`
//! takes the frames up to the last commit before the first frame that is not valid. What follows are frames of an earlier time,
//! with other salts.
//!
//! The commits of a log are synced one by one, so only the frames of the last commit may be missing after a power cut, any of
//! them. If a later commit follows a frame that is not valid, that frame was on the disk: it is damaged, and `SQLite` would drop
//! all commits from there on without an error.

use std::io::{self, Read};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The magic number without its lowest bit.
const MAGIC: u32 = 0x377f_0682;
const PAGE_SIZE_MIN: u32 = 512;
const PAGE_SIZE_MAX: u32 = 65_536;
/// A disk writes this many bytes together or not at all.
const SECTOR_BYTES: u64 = 512;

/// What a write-ahead log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WalContents {
    /// The bytes up to the end of the last commit that `SQLite` takes; 0 if there is none.
    pub(super) committed_bytes: u64,
    pub(super) damage: Option<WalDamage>,
    /// The header; all zero if the file is shorter.
    pub(super) header: [u8; HEADER_BYTES],
}

/// Which bytes of a write-ahead log are not those that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalDamage {
    /// The header. The frames can't be read without it.
    Header,
    /// A frame before the last commit, which begins at this byte.
    Frame { byte: u64 },
}

/// Reads a write-ahead log from its beginning.
pub(super) fn scan(file: &mut impl Read) -> io::Result<WalContents> {
    let mut header = [0; HEADER_BYTES];
    if !fill(file, &mut header)? {
        return Ok(WalContents::default());
    }
    let Some(mut frames) = Frames::after(&header) else {
        // The header is synced before the first frame is written.
        let mut first = [0; FRAME_HEADER_BYTES];
        let damage = (fill(file, &mut first)? && first != [0; FRAME_HEADER_BYTES]).then_some(WalDamage::Header);
        return Ok(WalContents { committed_bytes: 0, damage, header });
    };
    let mut frame = vec![0; frames.frame_bytes()];
    while frames.damage().is_none() && fill(file, &mut frame)? {
        frames.add(&frame);
    }
    Ok(WalContents { committed_bytes: frames.committed_bytes(), damage: frames.damage(), header })
}

/// Fills the buffer. Returns false if the file ends before.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The frames that were read so far.
struct Frames {
    is_big_endian: bool,
    page_size: usize,
    salts: [u8; 8],
    /// The checksum that the last frame, or the header, has.
    checksum: [u32; 2],
    count: u64,
    /// The number of frames up to the last commit before the first frame that is not valid.
    committed: u64,
    invalid: Option<InvalidFrame>,
}

/// The first frame that is not valid, and what was read after it.
#[derive(Clone, Copy)]
struct InvalidFrame {
    number: u64,
    /// The last frame of its commit, if it was read.
    end_of_commit: Option<u64>,
    /// The frame after the end of its commit is valid.
    is_continued: bool,
    /// The number of frames after the end of its commit that end a commit themselves.
    later_commits: u64,
}

impl InvalidFrame {
    /// Whether a later commit follows. One commit that doesn't continue the file may be an earlier one, whose sync has failed, and
    /// over which a shorter commit was written.
    const fn is_damage(&self) -> bool {
        self.later_commits >= if self.is_continued { 1 } else { 2 }
    }
}

impl Frames {
    /// `None` if the header is not valid.
    fn after(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (magic, page_size) = (number(header, 0), number(header, 8));
        let is_big_endian = magic & 1 == 1;
        let is_size = page_size.is_power_of_two() && (PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size);
        let checksum = checksum(is_big_endian, [0, 0], &header[..24]);
        let is_valid = magic & !1 == MAGIC && is_size && checksum == [number(header, 24), number(header, 28)];
        is_valid.then(|| Self {
            is_big_endian,
            page_size: page_size as usize,
            salts: bytes_at(header, 16),
            checksum,
            count: 0,
            committed: 0,
            invalid: None,
        })
    }

    const fn frame_bytes(&self) -> usize {
        FRAME_HEADER_BYTES + self.page_size
    }

    /// Where the frame of this number begins. The first one is number 1.
    const fn begin_of(&self, number: u64) -> u64 {
        HEADER_BYTES as u64 + (number - 1) * self.frame_bytes() as u64
    }

    fn committed_bytes(&self) -> u64 {
        if self.committed == 0 { 0 } else { self.begin_of(self.committed + 1) }
    }

    fn damage(&self) -> Option<WalDamage> {
        let InvalidFrame { number, .. } = self.invalid.filter(InvalidFrame::is_damage)?;
        Some(WalDamage::Frame { byte: self.begin_of(number) })
    }

    fn add(&mut self, frame: &[u8]) {
        self.count += 1;
        let stored = [number(frame, 16), number(frame, 20)];
        let (has_salts, ends_commit) = (bytes_at::<8>(frame, 8) == self.salts, number(frame, 4) != 0);
        let is_valid = has_salts && number(frame, 0) != 0 && self.checksum_of(frame) == stored;
        // A frame that is not valid says truly that it ends its commit if its header is the one that was written.
        let ends_commit = ends_commit && (is_valid || has_salts && self.header_is_in_one_sector(self.count));
        self.checksum = stored;
        match &mut self.invalid {
            None if is_valid && ends_commit => self.committed = self.count,
            None if is_valid => {}
            None => {
                let end_of_commit = ends_commit.then_some(self.count);
                let number = self.count;
                self.invalid = Some(InvalidFrame { number, end_of_commit, is_continued: false, later_commits: 0 });
            }
            Some(invalid) => match invalid.end_of_commit {
                None => invalid.end_of_commit = ends_commit.then_some(self.count),
                Some(end) => {
                    invalid.is_continued |= is_valid && self.count == end + 1;
                    invalid.later_commits += u64::from(ends_commit);
                }
            },
        }
    }

    fn checksum_of(&self, frame: &[u8]) -> [u32; 2] {
        let header = checksum(self.is_big_endian, self.checksum, &frame[..8]);
        checksum(self.is_big_endian, header, &frame[FRAME_HEADER_BYTES..])
    }

    /// If so, a power cut leaves the whole header of the frame as it was before, or as it was written.
    const fn header_is_in_one_sector(&self, number: u64) -> bool {
        let begin = self.begin_of(number);
        begin / SECTOR_BYTES == (begin + FRAME_HEADER_BYTES as u64 - 1) / SECTOR_BYTES
    }
}

/// The checksum of `SQLite`'s write-ahead log over further bytes. Their number is a multiple of 8.
fn checksum(is_big_endian: bool, before: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let word = if is_big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
    let (mut first, mut second) = (before[0], before[1]);
    let (words, _) = bytes.as_chunks::<4>();
    let (pairs, _) = words.as_chunks::<2>();
    for [left, right] in pairs {
        first = first.wrapping_add(word(*left)).wrapping_add(second);
        second = second.wrapping_add(word(*right)).wrapping_add(first);
    }
    [first, second]
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes_at(bytes, at))
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut found = [0; N];
    found.copy_from_slice(&bytes[at..at + N]);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of frames of each commit of [`sample`].
    const COMMITS: [usize; 4] = [1, 3, 1, 2];
    const PAGE: usize = 512;
    const FRAME: usize = FRAME_HEADER_BYTES + PAGE;

    /// A write-ahead log of these commits, with this text in its pages and in its salts.
    fn write(commits: &[usize], text: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, 3_007_000, 512, 0, u32::from(text), 7] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        let salts: [u8; 8] = bytes_at(&bytes, 16);
        let mut sum = checksum(false, [0, 0], &bytes);
        bytes.extend(sum.iter().flat_map(|number| number.to_be_bytes()));
        for (commit, frames) in commits.iter().enumerate() {
            for frame in 1..=*frames {
                let size = if frame == *frames { 9_u32 } else { 0 };
                let mut head = u32::try_from(frame).unwrap().to_be_bytes().to_vec();
                head.extend_from_slice(&size.to_be_bytes());
                let page = [text ^ u8::try_from(commit).unwrap(); PAGE];
                sum = checksum(false, checksum(false, sum, &head), &page);
                bytes.extend_from_slice(&head);
                bytes.extend_from_slice(&salts);
                bytes.extend(sum.iter().flat_map(|number| number.to_be_bytes()));
                bytes.extend_from_slice(&page);
            }
        }
        bytes
    }

    fn sample() -> Vec<u8> {
        write(&COMMITS, b'x')
    }

    fn found(bytes: &[u8]) -> (u64, Option<WalDamage>) {
        let WalContents { committed_bytes, damage, .. } = scan(&mut &bytes[..]).unwrap();
        (committed_bytes, damage)
    }

    /// Where the commit of this number begins; the first one is number 0.
    fn begin(commit: usize) -> usize {
        HEADER_BYTES + COMMITS[..commit].iter().sum::<usize>() * FRAME
    }

    #[test]
    fn a_file_that_is_as_it_was_written_has_all_commits_and_no_damage() {
        assert_eq!(found(&sample()), (sample().len() as u64, None));
        assert_eq!(found(&[]), (0, None));
        assert_eq!(found(&sample()[..HEADER_BYTES]), (0, None));
        assert_eq!(found(&[0; 4096]), (0, None), "a power cut before the header was synced");
    }

    #[test]
    fn a_file_that_ends_anywhere_has_the_commits_before_its_end() {
        let bytes = sample();
        for end in 0..bytes.len() {
            let commits = (1..=COMMITS.len()).map(begin).filter(|commit| *commit <= end).max().unwrap_or(0);
            assert_eq!(found(&bytes[..end]), (commits as u64, None), "cut at {end}");
        }
    }

    #[test]
    fn every_flipped_byte_before_the_last_commit_is_damage_at_its_frame() {
        let bytes = sample();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            let (committed, damage) = found(&flipped);
            let frame = (at.max(HEADER_BYTES) - HEADER_BYTES) / FRAME;
            let byte = (HEADER_BYTES + frame * FRAME) as u64;
            if at < HEADER_BYTES {
                assert_eq!((committed, damage), (0, Some(WalDamage::Header)), "byte {at}");
            } else if damage.is_none() {
                // What is left may be what a power cut leaves: of the last commit, and of the one before it if the end of that
                // commit can't be seen any more.
                let is_last = at >= begin(3) && committed == begin(3) as u64;
                assert!(is_last || at >= begin(2) && committed == begin(2) as u64, "byte {at}: {committed}");
            } else {
                let says_too_early_that_the_commit_ends = (begin(3) + 4..begin(3) + 8).contains(&at);
                assert!(at < begin(3) || says_too_early_that_the_commit_ends, "byte {at}");
                assert_eq!(damage, Some(WalDamage::Frame { byte }), "byte {at}");
            }
        }
    }

    #[test]
    fn frames_of_the_last_commit_that_a_power_cut_takes_are_no_damage_whichever_they_are() {
        // The file held older frames at the same places.
        for older in [write(&[2, 2, 2, 2, 2], b'o'), write(&[10], b'o'), vec![0; sample().len() + FRAME]] {
            let mut bytes = write(&[1, 6], b'n');
            let end = bytes.len();
            bytes.extend_from_slice(&older[end..]);
            let last = HEADER_BYTES + FRAME..end;
            let sectors: Vec<_> = (last.start / 512..=end / 512).map(|sector| sector * 512).collect();
            for lost in 1..1_u32 << sectors.len().min(10) {
                let mut cut = bytes.clone();
                for (_, sector) in sectors.iter().enumerate().filter(|(n, _)| lost >> n & 1 == 1) {
                    let range = (*sector).max(last.start)..(sector + 512).min(end);
                    cut[range.clone()].copy_from_slice(&older[range]);
                }
                let (committed, damage) = found(&cut);
                assert_eq!(damage, None, "{lost:b}");
                assert!(committed == last.start as u64 || committed == end as u64, "{committed}");
            }
        }
    }

    #[test]
    fn one_commit_after_another_that_a_power_cut_has_torn_may_be_an_earlier_one() {
        // The first commit is on the disk. The sync of the second one has failed, and a shorter one was written over it.
        let mut bytes = write(&[1, 6], b'n');
        let (before, end) = (HEADER_BYTES + FRAME, HEADER_BYTES + 3 * FRAME);
        bytes[before..end].copy_from_slice(&write(&[1, 2], b'n')[before..end]);
        bytes[before + 100] ^= 1;
        assert_eq!(found(&bytes), (before as u64, None));
    }

    #[test]
    fn frames_of_an_earlier_time_after_the_last_commit_are_no_damage() {
        let mut bytes = write(&[1, 1], b'n');
        let end = bytes.len();
        bytes.extend_from_slice(&write(&[1, 1, 1, 1, 1], b'o')[end..]);
        assert_eq!(found(&bytes), (end as u64, None));
    }
}
