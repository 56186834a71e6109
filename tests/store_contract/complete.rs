//! A log that has lost events is refused. Events are lost if the write-ahead log is damaged, cut or missing, or if `log.db` is
//! replaced. `SQLite` opens such a log without an error.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use taskbell::store::{Hash, OpenError, chain};
use tempfile::TempDir;

use super::folder::{folder, tamper};
use super::*;

/// The sizes of the header of the write-ahead log and of a frame in bytes.
const HEADER: usize = 32;
const FRAME: usize = 24 + 8192;

/// A log as a killed server leaves it, whose commits are in the write-ahead log and whose witness names the last event.
struct Left {
    dir: TempDir,
    lines: Vec<String>,
    head: (Position, Hash),
    wal: Vec<u8>,
}

impl Left {
    /// A log with so many commits.
    async fn with(commits: usize) -> Self {
        let (running, dir) = (folder(), folder());
        let store = EventStore::open(running.path()).unwrap();
        for commit in 0..commits {
            let appends = (0..=commit % 3 * 7).map(|_| first(&stream(), "t")).collect();
            assert!(store.append_many(appends).await.iter().all(Result::is_ok));
        }
        let (lines, head) = (lines(&all_events(&store).await), store.head());
        copy_as_killed(running.path(), dir.path());
        drop(store);
        // A log that is closed has the witness of its end.
        std::fs::copy(running.path().join("log.witness"), dir.path().join("log.witness")).unwrap();
        let wal = std::fs::read(dir.path().join("log.db-wal")).unwrap();
        assert!(wal.len() > HEADER + commits * FRAME);
        Self { dir, lines, head: (head.position, head.hash), wal }
    }

    /// A copy of the folder.
    fn copy(&self) -> TempDir {
        let copy = folder();
        copy_as_killed(self.dir.path(), copy.path());
        copy
    }

    /// Asserts that the log in this folder is the same, or is refused with a sentence that names the file and the place. Returns
    /// whether it is refused.
    async fn is_equal_or_refused(&self, dir: &Path, case: &str) -> bool {
        match EventStore::open(dir) {
            Ok(store) => {
                assert!(lines(&all_events(&store).await) == self.lines, "{case}: the events differ");
                false
            }
            Err(error) => {
                let sentence = error.to_string();
                assert!(sentence.contains("log.db") && sentence.contains("--accept-truncation"), "{case}: {sentence}");
                let is_placed = sentence.contains("at byte")
                    || sentence.contains("at position")
                    || sentence.contains("holds no log");
                assert!(is_placed, "{case}: {sentence}");
                true
            }
        }
    }

    async fn is_equal(&self, dir: &Path) {
        let store = EventStore::open(dir).unwrap();
        assert!(lines(&all_events(&store).await) == self.lines);
        assert_eq!((store.head().position, store.head().hash), self.head);
    }

    /// Opens the log with these bytes as its write-ahead log.
    async fn with_wal(&self, wal: &[u8], case: &str) -> bool {
        let copy = self.copy();
        std::fs::write(copy.path().join("log.db-wal"), wal).unwrap();
        self.is_equal_or_refused(copy.path(), case).await
    }

    async fn with_flipped_byte(&self, at: usize, bit: usize) -> bool {
        let mut wal = self.wal.clone();
        wal[at] ^= 1 << bit;
        self.with_wal(&wal, &format!("bit {bit} of byte {at}")).await
    }
}

#[track_caller]
fn refused(dir: &Path, words: &[&str]) {
    let sentence = EventStore::open(dir).unwrap_err().to_string();
    for words in words.iter().chain(&["taskbell serve --data", "--accept-truncation"]) {
        assert!(sentence.contains(words), "{words}: {sentence}");
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_write_ahead_log_loses_no_event_without_a_word() {
    let left = Left::with(9).await;
    let mut random = StdRng::seed_from_u64(11);
    let frames = (left.wal.len() - HEADER) / FRAME;
    let of_headers =
        (0..HEADER).chain((0..frames).step_by(5).flat_map(|frame| (0..24).map(move |at| HEADER + frame * FRAME + at)));
    let of_pages = (0..120).map(|_| random.random_range(0..left.wal.len()));
    let (mut cases, mut refused) = (0, 0);
    for at in of_headers.chain(of_pages.collect::<Vec<_>>()) {
        refused += usize::from(left.with_flipped_byte(at, random.random_range(0..8)).await);
        cases += 1;
    }
    println!("{cases} flips, {refused} refused");
    assert!(refused * 10 > cases * 9, "{refused} of {cases}: each byte of the file is checked");
}

#[tokio::test]
#[ignore = "half an hour: each byte of a write-ahead log"]
async fn every_flipped_byte_in_the_write_ahead_log_is_refused_or_changes_nothing() {
    let left = Left::with(5).await;
    let mut refused = 0;
    for at in 0..left.wal.len() {
        refused += usize::from(left.with_flipped_byte(at, at % 8).await);
    }
    println!("{} flips, {refused} refused", left.wal.len());
}

#[tokio::test]
async fn a_write_ahead_log_that_is_cut_anywhere_loses_no_event_without_a_word() {
    let left = Left::with(9).await;
    let frames = (left.wal.len() - HEADER) / FRAME;
    let ends = (0..=frames).map(|frame| HEADER + frame * FRAME);
    let around = ends.flat_map(|end| [end - 1, end, end + 1, end + 24, end + 4000]).chain([0, 1]);
    for length in around.filter(|length| *length < left.wal.len()) {
        assert!(left.with_wal(&left.wal[..length], &format!("cut at {length}")).await, "cut at {length}");
    }
    assert!(!left.with_wal(&left.wal, "the whole file").await);
    let mut longer = left.wal.clone();
    longer.extend_from_slice(&left.wal[HEADER..HEADER + FRAME]);
    assert!(!left.with_wal(&longer, "a frame of an earlier time at the end").await);
}

#[tokio::test]
async fn damage_before_the_last_commit_is_noticed_without_the_witness_too() {
    let left = Left::with(9).await;
    for at in [HEADER + 40, HEADER + 5 * FRAME + 8000, left.wal.len() / 2] {
        let copy = left.copy();
        let mut wal = left.wal.clone();
        wal[at] ^= 1;
        std::fs::write(copy.path().join("log.db-wal"), wal).unwrap();
        std::fs::remove_file(copy.path().join("log.witness")).unwrap();
        let frame = (at - HEADER) / FRAME;
        let place = format!("log.db-wal is damaged at byte {}, and commits follow", HEADER + frame * FRAME);
        refused(copy.path(), &[&place]);
    }
}

#[tokio::test]
async fn a_refusal_changes_no_file() {
    let left = Left::with(4).await;
    let copy = left.copy();
    let cut = &left.wal[..left.wal.len() - 1];
    std::fs::write(copy.path().join("log.db-wal"), cut).unwrap();
    refused(copy.path(), &["log.db ends at position", "log.witness names position"]);
    assert!(std::fs::read(copy.path().join("log.db-wal")).unwrap() == cut);
    std::fs::write(copy.path().join("log.db-wal"), &left.wal).unwrap();
    left.is_equal(copy.path()).await;
}

#[tokio::test]
async fn log_db_alone_is_refused_and_the_sentence_says_what_is_missing() {
    let left = Left::with(4).await;
    let remove = |dir: &TempDir, name: &str| std::fs::remove_file(dir.path().join(name)).unwrap();
    let (alone, without_wal, without_witness) = (left.copy(), left.copy(), left.copy());
    for name in ["log.db-wal", "log.witness", "lock"] {
        remove(&alone, name);
    }
    refused(
        alone.path(),
        &["log.witness is missing", "log.db ends at position 0", "needs log.db, log.db-wal and log.witness"],
    );
    remove(&without_wal, "log.db-wal");
    refused(without_wal.path(), &["log.db ends at position 0", "log.witness names position 25"]);
    remove(&without_witness, "log.witness");
    refused(without_witness.path(), &["log.witness is missing", "log.db ends at position 25"]);
}

#[tokio::test]
async fn a_log_whose_file_is_empty_or_missing_is_not_begun_anew() {
    let left = Left::with(4).await;
    let (empty, missing) = (left.copy(), left.copy());
    std::fs::File::options().write(true).open(empty.path().join("log.db")).unwrap().set_len(0).unwrap();
    std::fs::remove_file(missing.path().join("log.db")).unwrap();
    for dir in [&empty, &missing] {
        refused(dir.path(), &["log.db holds no log", "log.witness says that there was one"]);
        assert!(std::fs::read(dir.path().join("log.db-wal")).unwrap() == left.wal, "nothing is removed");
        std::fs::remove_file(dir.path().join("log.witness")).unwrap();
        refused(dir.path(), &["log.db holds no log", "log.db-wal says that there was one"]);
    }
}

#[tokio::test]
async fn a_log_with_another_event_or_another_id_than_its_witness_names_is_refused() {
    let left = Left::with(2).await;
    let (other_event, other_log) = (left.copy(), left.copy());
    tamper(other_event.path(), "UPDATE events SET hash = zeroblob(32) WHERE position = 9");
    refused(other_event.path(), &["another event at position 9", "log.witness"]);
    // Without the checksum of its id, as in the file of an earlier version.
    let other_id = "UPDATE log SET epoch = '0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0'; PRAGMA user_version = 0";
    tamper(other_log.path(), other_id);
    refused(other_log.path(), &["(epoch) 0199f0c2-1b7e-7a31-9c55-5be2f1a4d6c0", "log.witness names the log"]);
}

#[tokio::test]
async fn a_witness_that_lags_behind_is_no_reason_to_refuse_and_one_that_is_ahead_is() {
    let dir = folder();
    let (witness, mut earlier) = (dir.path().join("log.witness"), Vec::new());
    for _ in 0..4 {
        let store = EventStore::open(dir.path()).unwrap();
        store.append(first(&stream(), "t")).await.unwrap();
        drop(store);
        earlier.push(std::fs::read(&witness).unwrap());
    }
    let shorter = folder();
    copy_as_killed(dir.path(), shorter.path());
    tamper(shorter.path(), "DELETE FROM events WHERE position > 2");
    for (names, bytes) in (1..).zip(&earlier) {
        std::fs::write(&witness, bytes).unwrap();
        assert_eq!(EventStore::open(dir.path()).unwrap().head().position, Position(4), "the witness names {names}");
        std::fs::write(shorter.path().join("log.witness"), bytes).unwrap();
        let opened = EventStore::open(shorter.path());
        assert_eq!(opened.is_ok(), names <= 2, "the witness names {names} of 2");
    }
}

#[tokio::test]
async fn a_damaged_witness_names_an_earlier_event_or_is_refused() {
    let left = Left::with(3).await;
    let file = std::fs::read(left.dir.path().join("log.witness")).unwrap();
    let with = |bytes: Vec<u8>| {
        let copy = left.copy();
        std::fs::write(copy.path().join("log.witness"), bytes).unwrap();
        copy
    };
    for at in (0..file.len()).step_by(331) {
        let mut flipped = file.clone();
        flipped[at] ^= 4;
        left.is_equal_or_refused(with(flipped).path(), &format!("flipped at {at}")).await;
        left.is_equal_or_refused(with(file[..at].to_vec()).path(), &format!("cut at {at}")).await;
    }
    let damaged = with(file.iter().map(|byte| byte ^ 1).collect());
    refused(damaged.path(), &["log.witness is damaged", "log.db ends at position"]);
}

#[tokio::test]
async fn a_copy_of_the_whole_folder_opens_whether_its_server_was_stopped_or_killed() {
    let left = Left::with(6).await;
    left.is_equal(left.copy().path()).await;
    let (stopped, restored) = (left.copy(), folder());
    drop(EventStore::open(stopped.path()).unwrap());
    copy_as_killed(stopped.path(), restored.path());
    left.is_equal(restored.path()).await;
}

#[tokio::test]
async fn a_log_of_an_earlier_version_gets_a_witness_when_it_is_opened() {
    let left = Left::with(3).await;
    let old = left.copy();
    tamper(old.path(), "PRAGMA user_version = 0");
    std::fs::remove_file(old.path().join("log.witness")).unwrap();
    left.is_equal(old.path()).await;
    assert!(old.path().join("log.witness").is_file());
    left.is_equal(old.path()).await;
    std::fs::remove_file(old.path().join("log.witness")).unwrap();
    refused(old.path(), &["log.witness is missing"]);
}

#[tokio::test]
async fn a_kill_between_the_steps_of_the_first_start_leaves_a_log_that_opens() {
    let left = Left::with(3).await;
    let old = left.copy();
    tamper(old.path(), "PRAGMA user_version = 0");
    // Killed before the log recorded that it has a witness, or while the witness was created.
    std::fs::write(old.path().join("log.witness.new"), "half").unwrap();
    left.is_equal(old.path()).await;
    let new = folder();
    drop(EventStore::open(new.path()).unwrap());
    tamper(new.path(), "PRAGMA user_version = 0");
    std::fs::remove_file(new.path().join("log.witness")).unwrap();
    assert_eq!(EventStore::open(new.path()).unwrap().head().position, Position(0));
}

/// Appends until it is killed. Prints the position of each event that was acknowledged.
#[tokio::test]
#[ignore = "runs in a process that is killed: see a_kill_right_after_an_acknowledgement_loses_nothing_and_is_no_reason_to_refuse"]
async fn append_until_killed() {
    let store = EventStore::open(&PathBuf::from(std::env::var_os("TASKBELL_TEST_DIR").unwrap())).unwrap();
    loop {
        store.append(first(&stream(), "t")).await.unwrap();
        println!("acknowledged {}", store.head().position);
    }
}

/// Kills a process that appends, after so many acknowledgements. Returns the last position that it has printed.
fn kill_after(dir: &Path, acknowledgements: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store_contract::complete::append_until_killed", "--ignored", "--nocapture"])
        .env("TASKBELL_TEST_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut acknowledged = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
    let seen = acknowledged.by_ref().nth(acknowledgements).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    // The last line may be cut off by the kill, so only the one before it counts for certain.
    let rest: Vec<u64> = acknowledged.collect();
    rest.iter().rev().nth(1).copied().unwrap_or(seen)
}

async fn kill_and_open(rounds: usize) {
    let (dir, mut random) = (folder(), StdRng::seed_from_u64(5));
    for round in 0..rounds {
        let known = kill_after(dir.path(), [0, 1, random.random_range(2..400)][round % 3]);
        let store = EventStore::open(dir.path()).unwrap_or_else(|error: OpenError| panic!("round {round}: {error}"));
        assert!(store.head().position.0 >= known, "round {round}: {known} events were acknowledged");
        assert_eq!(chain::verify(Hash::ZERO, &all_events(&store).await), Ok(store.head().hash));
        if round % 2 == 0 {
            store.append(first(&stream(), "between")).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_kill_right_after_an_acknowledgement_loses_nothing_and_is_no_reason_to_refuse() {
    kill_and_open(12).await;
}

#[tokio::test]
#[ignore = "minutes"]
async fn five_hundred_kills_lose_nothing_and_are_no_reason_to_refuse() {
    kill_and_open(500).await;
}
