//! The log in a folder: `SQLite` in one file, one writer with group commit, a few readers, the newest events in memory.
//!
//! [`db`] is the only file that names the engine; [`writer`] is the thread that writes.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::draft::Draft;
use super::tail::{Bounds, Tail};
use super::{AppendError, OpenError, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

mod db;
mod writer;

use db::{Reader, Readers};
use writer::{Job, Writer};

/// What the newest events in memory may take: a subscriber that is this close to the head doesn't touch the file.
const TAIL: Bounds = Bounds { events: 8192, bytes: 16 << 20, streams: true };
/// Jobs that may wait for the writer; more wait in their callers.
const QUEUE: usize = 1024;

pub(in crate::store) struct Sqlite {
    pub(in crate::store) tail: Arc<Tail>,
    pub(in crate::store) epoch: Uuid,
    readers: Readers,
    /// None only while it is being dropped.
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    /// Why there are no more writes in this process.
    fault: Arc<OnceLock<String>>,
    /// Held as long as the writer lives: two servers can't share a folder.
    _lock: File,
}

impl Sqlite {
    pub(in crate::store) fn open(dir: &Path) -> Result<Self, OpenError> {
        make(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        let path = dir.join("log.db");
        let made = private(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let db::Opened { log, epoch, head } = db::open(&path)?;
        if made {
            sync_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        }
        let tail = Arc::new(Tail::new(head, TAIL));
        let fault = Arc::new(OnceLock::new());
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(log, tail.clone(), fault.clone());
        let writer = std::thread::Builder::new().name("taskbell-log".to_owned()).spawn(move || writer.run(queue));
        let writer = writer.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let readers = Readers::new(path);
        Ok(Self { tail, epoch, readers, jobs: Some(jobs), writer: Some(writer), fault, _lock: lock })
    }

    pub(in crate::store) async fn append(&self, drafts: Vec<Draft>) -> Vec<Result<Revision, AppendError>> {
        let count = drafts.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if let Some(jobs) = &self.jobs {
            // A job that isn't taken is dropped, and its answer with it.
            drop(jobs.send(Job { drafts, answer }).await);
        }
        // A writer that died on the way may have written it: that is not for a caller to try again.
        let ended = |_| vec![Err(AppendError::ReadOnly("its writer has ended".to_owned())); count];
        answered.await.unwrap_or_else(ended)
    }

    pub(in crate::store) async fn read_stream(
        &self,
        stream: StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        if let Some(mut events) = self.tail.stream(&stream) {
            let before = events.len().min(usize::try_from(from.0).unwrap_or(usize::MAX));
            events.drain(..before);
            return Ok(events);
        }
        self.readers.run(move |reader| reader.stream(&stream, from)).await
    }

    pub(in crate::store) async fn read_streams(
        &self,
        streams: Vec<StreamName>,
    ) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let mut found: Vec<_> = streams.iter().map(|stream| self.tail.stream(stream)).collect();
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        let all = move |reader: &Reader| {
            let mut read = streams.iter().zip(&mut found).map(|(stream, found)| match found.take() {
                Some(events) => Ok(events),
                None => reader.stream(stream, Revision(0)),
            });
            reader.together(|_| read.by_ref().collect())
        };
        self.readers.run(all).await
    }

    pub(in crate::store) async fn read_all(
        &self,
        after: Position,
        head: Position,
        limit: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.readers.run(move |reader| reader.all(after, head, limit)).await
    }

    pub(in crate::store) fn health(&self) -> Result<(), String> {
        match self.fault.get() {
            Some(fault) => Err(fault.clone()),
            None if self.writer.as_ref().is_none_or(JoinHandle::is_finished) => Err("its writer has ended".to_owned()),
            None => Ok(()),
        }
    }
}

impl Drop for Sqlite {
    /// Ends the writer once its queue is written; the lock goes after it.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the log had panicked");
        }
    }
}

/// The folder, for its owner alone where it is new, and its name durable.
fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Makes the file for its owner alone; whether there was none. The engine gives its side files the same mode.
fn private(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = file.map_err(|source| OpenError::Io { path: path.clone(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path, source }),
    }
}
