//! The file of the [`witness`](super::witness), and the thread that keeps it up to date.
//!
//! The thread writes when the log has grown, at most every [`PAUSE`], and syncs the file. It names only events whose commit has
//! returned, so the file never names an event that is not durable. An event that was acknowledged in the last moments before a
//! crash is not named yet. No commit waits for the thread.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::folder::{sync_folder, with_suffix};
use super::witness::{RECORD_BYTES, Witness, WitnessContents};
use crate::store::Head;
use crate::store::recent::RecentEvents;
use crate::task::Position;

/// The time between the first commit that the file doesn't name and the write. The sync must end before twice this time.
const PAUSE: Duration = Duration::from_millis(50);

/// Where the witness of the log in this folder is.
pub(super) fn witness_path(dir: &Path) -> PathBuf {
    dir.join("log.witness")
}

/// Reads the file.
pub(super) fn read_witness(path: &Path) -> io::Result<WitnessContents> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(4 * RECORD_BYTES as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(WitnessContents::Missing),
        Err(error) => return Err(error),
    };
    Ok(WitnessContents::of_file(&bytes))
}

/// The open file.
pub(super) struct WitnessFile {
    file: File,
    witness: Witness,
    /// The record that is written next. If a write fails, the other record stays as it is.
    next: usize,
}

impl WitnessFile {
    /// Creates the file, or replaces it. It is durable when this returns.
    pub(super) fn create(path: &Path, witness: Witness) -> io::Result<Self> {
        let new = with_suffix(path, ".new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&witness.to_file())?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(Self { file, witness, next: 0 })
    }

    /// Opens the file that holds this witness.
    pub(super) fn open(path: &Path, witness: Witness, next: usize) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().write(true).open(path)?, witness, next })
    }

    /// Names the end of the log, which must be durable.
    fn name(&mut self, head: Head) -> io::Result<()> {
        if head.position <= self.witness.position {
            return Ok(());
        }
        let witness = Witness { position: head.position, hash: head.hash, ..self.witness };
        self.file.write_all_at(&witness.to_record(), (self.next * RECORD_BYTES) as u64)?;
        self.file.sync_data()?;
        (self.witness, self.next) = (witness, 1 - self.next);
        Ok(())
    }
}

/// The thread. Its drop names the end of the log and waits until the thread has ended.
pub(super) struct WitnessThread {
    /// `None` only while this is being dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl WitnessThread {
    pub(super) fn start(file: WitnessFile, recent: Arc<RecentEvents>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (changes, (stop, stopped)) = (recent.head_changes(), oneshot::channel());
        let run = move || runtime.block_on(keep(file, &recent, changes, stopped));
        let thread = std::thread::Builder::new().name("taskbell-witness".to_owned()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for WitnessThread {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that writes log.witness has panicked");
        }
    }
}

async fn keep(
    mut file: WitnessFile,
    recent: &RecentEvents,
    mut changes: watch::Receiver<Position>,
    mut stopped: oneshot::Receiver<()>,
) {
    let (mut is_stopping, mut has_failed) = (false, false);
    while !is_stopping {
        is_stopping = tokio::select! {
            biased;
            _ = &mut stopped => true,
            _ = changes.changed() => tokio::time::timeout(PAUSE, &mut stopped).await.is_ok(),
        };
        changes.mark_unchanged();
        // The head is the end of the last commit that has returned.
        let written = file.name(recent.head());
        log_change(&written, has_failed);
        has_failed = written.is_err();
    }
}

/// Writes a line to the program's log when the writes begin to fail and when they succeed again.
fn log_change(written: &io::Result<()>, has_failed: bool) {
    match written {
        Ok(()) if has_failed => tracing::info!("log.witness is written again"),
        Err(error) if !has_failed => tracing::warn!(
            %error,
            "log.witness can't be written now: the log is durable, but a later start can't notice that its last events are missing"
        ),
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::store::Hash;
    use crate::store::recent::Bounds;

    fn head(position: u64) -> Head {
        Head { position: Position(position), hash: Hash([7; 32]), time: None }
    }

    fn named(path: &Path) -> Position {
        let WitnessContents::Valid { witness, .. } = read_witness(path).unwrap() else { panic!("no witness") };
        witness.position
    }

    #[test]
    fn a_write_that_is_interrupted_anywhere_leaves_the_position_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = witness_path(dir.path());
        assert_eq!(read_witness(&path).unwrap(), WitnessContents::Missing);
        let first = Witness { position: Position(1), hash: Hash::ZERO, epoch: Uuid::from_u128(1) };
        let mut file = WitnessFile::create(&path, first).unwrap();
        for position in 2..6 {
            let before = std::fs::read(&path).unwrap();
            file.name(head(position)).unwrap();
            let after = std::fs::read(&path).unwrap();
            for length in (0..after.len()).step_by(31) {
                std::fs::write(&path, [&after[..length], &before[length..]].concat()).unwrap();
                assert!((position - 1..=position).contains(&named(&path).0), "{length} bytes were written");
            }
            std::fs::write(&path, &after).unwrap();
            assert_eq!(named(&path), Position(position));
        }
        file.name(head(3)).unwrap();
        assert_eq!(named(&path), Position(5), "an earlier end is not named");
    }

    #[test]
    fn the_end_of_the_log_is_named_when_the_log_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = witness_path(dir.path());
        let first = Witness { position: Position(0), hash: Hash::ZERO, epoch: Uuid::from_u128(1) };
        let recent = Arc::new(RecentEvents::new(head(0), Bounds::UNLIMITED));
        let thread = WitnessThread::start(WitnessFile::create(&path, first).unwrap(), recent.clone()).unwrap();
        recent.publish([], head(9));
        drop(thread);
        assert_eq!(named(&path), Position(9));
    }
}
