//! The log in a folder: an `SQLite` file, one thread that writes with group commit ([`writer`]), a pool of connections that
//! read, and the newest events in memory. [`db`] is the only file that names the engine.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::encoded::EncodedAppend;
use super::recent::{Bounds, RecentEvents};
use super::{AppendError, OpenError, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

mod db;
mod writer;

use db::{ReadConnection, ReaderPool};
use writer::{WriteRequest, Writer};

/// The events that are kept in memory: a subscriber that is this close to the head doesn't read the file.
const RECENT: Bounds = Bounds { events: 8192, bytes: 16 << 20, by_stream: true };
/// Requests that the writer's queue holds; when it is full, callers wait to send theirs.
const QUEUE: usize = 1024;

pub(in crate::store) struct Sqlite {
    pub(in crate::store) recent: Arc<RecentEvents>,
    pub(in crate::store) epoch: Uuid,
    readers: ReaderPool,
    /// None only while the store is being dropped.
    requests: Option<mpsc::Sender<WriteRequest>>,
    writer: Option<JoinHandle<()>>,
    /// Why there are no more writes in this process.
    failure: Arc<OnceLock<String>>,
    /// Held for as long as the writer runs: two servers can't share a folder.
    _lock: File,
}

impl Sqlite {
    pub(in crate::store) fn open(dir: &Path) -> Result<Self, OpenError> {
        create_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let lock = lock(dir)?;
        let path = dir.join("log.db");
        let is_new = create_file(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let db::Opened { file, epoch, head } = db::open(&path)?;
        if is_new {
            sync_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        }
        let recent = Arc::new(RecentEvents::new(head, RECENT));
        let failure = Arc::new(OnceLock::new());
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(file, recent.clone(), failure.clone());
        let writer = std::thread::Builder::new().name("taskbell-log".to_owned()).spawn(move || writer.run(queue));
        let writer = writer.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let readers = ReaderPool::new(path);
        Ok(Self { recent, epoch, readers, requests: Some(requests), writer: Some(writer), failure, _lock: lock })
    }

    pub(in crate::store) async fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        let count = appends.len();
        if count == 0 {
            return Vec::new();
        }
        let (answer, answered) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // A request that the queue doesn't take is dropped, and its sender of answers with it.
            drop(requests.send(WriteRequest { appends, answer }).await);
        }
        // A writer that ended in between may have written the events, so the caller must not try again.
        let ended = |_| vec![Err(AppendError::ReadOnly("its writer has ended".to_owned())); count];
        answered.await.unwrap_or_else(ended)
    }

    pub(in crate::store) async fn read_stream(
        &self,
        stream: StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        if let Some(mut events) = self.recent.stream(&stream) {
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
        let mut found: Vec<_> = streams.iter().map(|stream| self.recent.stream(stream)).collect();
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        let all = move |reader: &ReadConnection| {
            let mut read = streams.iter().zip(&mut found).map(|(stream, found)| match found.take() {
                Some(events) => Ok(events),
                None => reader.stream(stream, Revision(0)),
            });
            reader.in_transaction(|_| read.by_ref().collect())
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
        match self.failure.get() {
            Some(failure) => Err(failure.clone()),
            None if self.writer.as_ref().is_none_or(JoinHandle::is_finished) => Err("its writer has ended".to_owned()),
            None => Ok(()),
        }
    }
}

impl Drop for Sqlite {
    /// Waits until the writer has written its queue and ended. The folder is unlocked after that.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
    }
}

/// Creates the folder, readable by its owner alone, where there is none; its name is durable when this returns.
fn create_folder(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

/// Creates the file, readable by its owner alone; false where there is one. The engine gives its side files the same mode.
fn create_file(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Locks the folder for as long as the file is open.
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
