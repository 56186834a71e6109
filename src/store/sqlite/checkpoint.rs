//! Copies the write-ahead log into the main file (a checkpoint), out of the way of the commits.
//!
//! `SQLite` writes each commit to the write-ahead log. It begins to write this file anew only when a commit starts and every
//! frame (a page in the file) has been copied to the main file. So the work has two parts:
//!
//! 1. **The bulk**: when [`START_FRAMES`] frames are not copied, a thread of its own copies them on its own connection, while
//!    the writer commits further frames. Both may run at the same time.
//! 2. **The rest**: the frames of these commits. If they are more than [`REST_FRAMES`], the thread copies once more. Otherwise
//!    the writer copies them between two commits. Then all frames are copied, and its next commit begins the file anew.
//!
//! A reader of an old state keeps the frames after that state from being copied: `SQLite` then copies fewer frames and reports
//! no error. This is normal for a moment. If a program holds such a state for long, the file grows, and a warning says so.
//! A kill at any moment loses nothing: a frame is forgotten only after its page in the main file is durable.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::repeats::Repeats;

/// The size of a frame: a page, and a header of 24 bytes.
const FRAME_BYTES: u64 = 8216;
/// The thread copies frames when this many are not copied: 16 MB.
const START_FRAMES: u32 = 2000;
/// The largest number of frames that the writer copies itself, unless the thread can't keep up with the commits.
const REST_FRAMES: u32 = 200;
/// After so many rounds of the thread, the writer copies the rest, however large it is. So the file stays bounded.
const ROUNDS_MAX: u32 = 4;
/// After a checkpoint has failed, the thread tries again after this time, even if no commit comes.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// A warning is logged when this many frames are not copied (256 MB), and again for each time as many.
const WARN_FRAMES: u32 = 32_000;

/// The state of the write-ahead log, as the last commits and checkpoints have shown it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAheadLog {
    /// The frames in the file. A frame has 8,216 bytes.
    pub frames: u32,
    /// How many of them are in the main file too.
    pub copied: u32,
    /// How many checkpoints have copied everything that they found.
    pub complete: u64,
    /// How many checkpoints have left frames, because a reader or another checkpoint was in the way.
    pub partial: u64,
    /// How many checkpoints have failed.
    pub failed: u64,
    /// The last checkpoint has failed.
    pub is_failing: bool,
}

impl WriteAheadLog {
    /// What an operator must know, although the log can be read and written: why the file grows, and how large it is. `None` if
    /// it doesn't grow.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        let rest = self.frames.saturating_sub(self.copied);
        let why = if self.is_failing {
            "its checkpoints fail, and the lines that the server logs say why"
        } else if rest >= WARN_FRAMES {
            "another program may hold a read of log.db"
        } else {
            return None;
        };
        let megabytes = u64::from(self.frames) * FRAME_BYTES / 1_000_000;
        Some(format!("the write-ahead log has {megabytes} MB and grows: {why}"))
    }
}

/// What the writer, the thread and the metrics share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    frames: AtomicU32,
    copied: AtomicU32,
    /// The number of frames at which the next checkpoint begins.
    next_start: AtomicU32,
    /// How often the thread has copied since the last checkpoint by the writer.
    rounds: AtomicU32,
    /// The thread copies frames now.
    is_copying: AtomicBool,
    is_stopping: AtomicBool,
    complete: AtomicU64,
    partial: AtomicU64,
    failed: AtomicU64,
    /// The last checkpoint has failed.
    has_failed: AtomicBool,
    failures: Repeats,
    /// The number of frames at which the next warning is logged.
    next_warning: AtomicU32,
}

/// What the writer does about the write-ahead log after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Wake the thread.
    CopyBulk,
    /// Copy the rest now.
    CopyRest,
}

/// The thread that copies the bulk. Its drop waits until the thread has ended.
pub(super) struct Checkpointer {
    progress: Arc<Progress>,
    /// `None` only while this is being dropped.
    thread: Option<JoinHandle<()>>,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        let progress = Self::default();
        progress.next_start.store(START_FRAMES, Ordering::Relaxed);
        progress.next_warning.store(WARN_FRAMES, Ordering::Relaxed);
        Arc::new(progress)
    }

    pub(super) fn state(&self) -> WriteAheadLog {
        WriteAheadLog {
            frames: self.frames.load(Ordering::Relaxed),
            copied: self.copied.load(Ordering::Relaxed),
            complete: self.complete.load(Ordering::Relaxed),
            partial: self.partial.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            is_failing: self.has_failed.load(Ordering::Relaxed),
        }
    }

    /// Notes how many frames the file has after a commit. Fewer than before mean that the file was begun anew.
    pub(super) fn note_commit(&self, frames: u32) {
        if frames < self.frames.swap(frames, Ordering::AcqRel) {
            self.copied.store(0, Ordering::Release);
            self.rounds.store(0, Ordering::Release);
            self.next_start.store(START_FRAMES, Ordering::Release);
            self.next_warning.store(WARN_FRAMES, Ordering::Relaxed);
        }
    }

    /// What the writer does next. Only the writer calls this, after a commit.
    pub(super) fn next_step(&self) -> Step {
        // The thread changes the other fields before it resets `is_copying`.
        let is_copying = self.is_copying.load(Ordering::Acquire);
        let (frames, copied) = (self.frames.load(Ordering::Acquire), self.copied.load(Ordering::Acquire));
        if is_copying || frames < self.next_start.load(Ordering::Acquire) {
            return Step::Nothing;
        }
        match self.rounds.load(Ordering::Acquire) {
            0 => Step::CopyBulk,
            rounds if rounds >= ROUNDS_MAX || frames.saturating_sub(copied) <= REST_FRAMES => Step::CopyRest,
            _ => Step::CopyBulk,
        }
    }

    /// Copies frames on this connection, as far as readers allow, and notes the result. `is_rest`: the writer copies what is
    /// left, so after a partial result the next checkpoint waits for further frames.
    pub(super) fn copy(&self, connection: &Connection, is_rest: bool) {
        let result = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let is_complete = match result {
            Ok((busy, frames, copied)) => {
                let (frames, copied) = (frame_count(frames), frame_count(copied));
                self.copied.store(copied, Ordering::Release);
                busy == 0 && copied >= frames
            }
            Err(error) => {
                self.note_failure(&error);
                return;
            }
        };
        self.note_success();
        (if is_complete { &self.complete } else { &self.partial }).fetch_add(1, Ordering::Relaxed);
        // After the bulk, the writer goes on at its next commit. After an incomplete checkpoint, an early retry would copy
        // nothing: the reader that was in the way may still be there.
        if is_rest || !is_complete {
            self.wait_for_frames();
        } else {
            self.rounds.fetch_add(1, Ordering::AcqRel);
        }
        self.warn_if_long();
    }

    fn note_failure(&self, error: &rusqlite::Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.has_failed.store(true, Ordering::Release);
        if let Some(times) = self.failures.occurred(Instant::now()) {
            let WriteAheadLog { frames, .. } = self.state();
            tracing::warn!(
                %error,
                times,
                frames,
                "the write-ahead log can't be copied to log.db and grows; its events are durable; look at the disk of the data folder"
            );
        }
        self.wait_for_frames();
    }

    fn note_success(&self) {
        if self.has_failed.swap(false, Ordering::AcqRel)
            && let Some(ended) = self.failures.ended(Instant::now())
        {
            tracing::info!(failed = ended.total, lasted = ?ended.lasted, "the write-ahead log can be copied to log.db again");
        }
    }

    /// Lets the next checkpoint begin after further [`START_FRAMES`].
    fn wait_for_frames(&self) {
        let frames = self.frames.load(Ordering::Acquire);
        self.next_start.store(frames.saturating_add(START_FRAMES), Ordering::Release);
        self.rounds.store(0, Ordering::Release);
    }

    fn warn_if_long(&self) {
        let WriteAheadLog { frames, copied, .. } = self.state();
        let rest = frames.saturating_sub(copied);
        if rest >= self.next_warning.load(Ordering::Relaxed) {
            self.next_warning.store(rest.saturating_add(WARN_FRAMES), Ordering::Relaxed);
            tracing::warn!(
                frames,
                copied,
                "the write-ahead log of log.db grows, because its frames can't be copied; another program may hold a read of log.db"
            );
        }
    }
}

impl Checkpointer {
    /// Starts the thread. It needs a connection of its own to the log's file.
    pub(super) fn start(connection: Connection, progress: Arc<Progress>) -> io::Result<Self> {
        let shared = Arc::clone(&progress);
        let thread =
            std::thread::Builder::new().name("taskbell-ckpt".to_owned()).spawn(move || run(&connection, &shared))?;
        Ok(Self { progress, thread: Some(thread) })
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Lets the thread end when its present copy has ended.
    pub(super) fn stop_copying(&self) {
        self.progress.is_stopping.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Lets the thread copy the bulk.
    pub(super) fn start_bulk(&self) {
        if let Some(thread) = &self.thread {
            self.progress.is_copying.store(true, Ordering::Release);
            thread.thread().unpark();
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop_copying();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies the write-ahead log has panicked");
        }
    }
}

fn run(connection: &Connection, progress: &Progress) {
    while !progress.is_stopping.load(Ordering::Acquire) {
        if progress.is_copying.load(Ordering::Acquire) {
            progress.copy(connection, false);
            progress.is_copying.store(false, Ordering::Release);
        } else if progress.has_failed.load(Ordering::Acquire) {
            let begun = Instant::now();
            std::thread::park_timeout(RETRY_PAUSE);
            // The thread may have been woken because it must stop, or because the writer wants a copy.
            let is_time_over = begun.elapsed() >= RETRY_PAUSE && !progress.is_stopping.load(Ordering::Acquire);
            progress.is_copying.fetch_or(is_time_over, Ordering::AcqRel);
        } else {
            std::thread::park();
        }
    }
}

/// A count that `SQLite` reports; it is negative if there is no write-ahead log.
fn frame_count(reported: i64) -> u32 {
    u32::try_from(reported.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(frames: u32, copied: u32, rounds: u32) -> Arc<Progress> {
        let progress = Progress::new();
        progress.note_commit(frames);
        progress.copied.store(copied, Ordering::Release);
        progress.rounds.store(rounds, Ordering::Release);
        progress
    }

    #[test]
    fn the_thread_copies_the_bulk_and_the_writer_the_rest() {
        for (frames, copied, rounds, step) in [
            (1, 0, 0, Step::Nothing),
            (1999, 0, 0, Step::Nothing),
            (2000, 0, 0, Step::CopyBulk),
            (2200, 2000, 1, Step::CopyRest),
            (2201, 2000, 1, Step::CopyBulk),
            (9000, 7000, 3, Step::CopyBulk),
            (12_000, 9000, 4, Step::CopyRest),
        ] {
            let found = progress(frames, copied, rounds).next_step();
            assert_eq!(found, step, "{frames} frames, {copied} of them copied in {rounds} rounds");
        }
    }

    #[test]
    fn while_the_thread_copies_the_writer_only_commits() {
        let progress = progress(5000, 0, 0);
        progress.is_copying.store(true, Ordering::Release);
        assert_eq!(progress.next_step(), Step::Nothing);
    }

    #[test]
    fn a_file_that_is_begun_anew_has_nothing_copied_and_the_first_threshold() {
        let progress = progress(2200, 2200, 1);
        progress.wait_for_frames();
        assert_eq!(progress.next_step(), Step::Nothing);
        progress.note_commit(3);
        assert_eq!(progress.state(), WriteAheadLog { frames: 3, ..WriteAheadLog::default() });
        progress.note_commit(2000);
        assert_eq!(progress.next_step(), Step::CopyBulk);
    }
}
