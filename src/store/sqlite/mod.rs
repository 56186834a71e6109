//! The log in a folder: an `SQLite` file, one thread that writes with group commit ([`writer`]), a pool of connections that
//! [`read`], and the newest events in memory. [`schema`] describes the tables, [`write_connection`] fills them, [`write_state`]
//! says whether the log can be written, and [`checkpoint`] keeps the write-ahead log short. [`fold`] reads the whole log.
//! `meta`, `row`, `interned` and `names` say how an event becomes a row and back. [`upgrade`] converts a log of format 1.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::encoded::EncodedAppend;
use super::recent::{Bounds, RecentEvents};
use super::{AppendError, Fact, OpenError, ReadError, Recorded, StreamName};
use crate::task::{Position, Revision};

mod checkpoint;
mod fold;
mod folder;
mod format1;
mod interned;
mod meta;
mod names;
mod open;
mod read;
mod receive;
mod row;
mod schema;
pub(super) mod upgrade;
mod write_connection;
mod write_state;
mod writer;

pub use checkpoint::WriteAheadLog;
use checkpoint::{Checkpointer, Progress};
use folder::{create_file, create_folder, lock_folder, sync_folder};
use open::{OpenedLog, open_for_checkpoints};
use read::{ReadConnection, ReaderPool};
use write_state::WriteState;
use writer::{WriteAnswer, WriteRequest, Writer};

/// How many of the newest events stay in memory. A subscriber whose next event is one of them doesn't read the file.
const RECENT_BOUNDS: Bounds = Bounds { events: 8192, bytes: 16 << 20, by_stream: true };
/// The largest number of requests in the writer's queue. When the queue is full, callers wait until they can send theirs.
const QUEUE_CAPACITY: usize = 1024;

/// The log in a folder. Its drop waits until the writer has ended.
pub(in crate::store) struct Sqlite {
    pub(in crate::store) recent: Arc<RecentEvents>,
    pub(in crate::store) epoch: Uuid,
    readers: ReaderPool,
    /// The writer's queue. `None` only while the store is being dropped.
    requests: Option<mpsc::Sender<WriteRequest>>,
    /// The writer's thread. `None` only while the store is being dropped.
    writer: Option<JoinHandle<()>>,
    state: WriteState,
    progress: Arc<Progress>,
    /// The lock file, locked until the writer has ended: two servers can't share a folder.
    _lock: File,
}

impl Sqlite {
    pub(in crate::store) fn open(dir: &Path) -> Result<Self, OpenError> {
        create_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let lock = lock_folder(dir)?;
        let path = dir.join("log.db");
        create_file(&path).map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let OpenedLog { mut writer_connection, epoch, head } = open::open(&path)?;
        // The file may have been created or put in its place by a process that was killed before it could do this.
        sync_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let recent = Arc::new(RecentEvents::new(head, RECENT_BOUNDS));
        let state = WriteState::new();
        let (requests, queue) = mpsc::channel(QUEUE_CAPACITY);
        let progress = Progress::new();
        let invalid_log = |reason: String| OpenError::Database { path: path.clone(), reason };
        writer_connection.note_commits(progress.clone()).map_err(|error| invalid_log(error.to_string()))?;
        let checkpointer = Checkpointer::start(open_for_checkpoints(&path)?, progress.clone());
        let checkpointer = checkpointer.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let writer = Writer::new(writer_connection, recent.clone(), state.clone(), checkpointer);
        let thread = std::thread::Builder::new().name("taskbell-log".to_owned()).spawn(move || writer.run(queue));
        let thread = thread.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let readers = ReaderPool::new(path);
        Ok(Self {
            recent,
            epoch,
            readers,
            requests: Some(requests),
            writer: Some(thread),
            state,
            progress,
            _lock: lock,
        })
    }

    pub(in crate::store) async fn append(&self, appends: Vec<EncodedAppend>) -> Vec<Result<Revision, AppendError>> {
        let count = appends.len();
        if count == 0 {
            return Vec::new();
        }
        let (result_sender, result_receiver) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // If the writer has ended, the request is dropped with its `results`, and `result_receiver` returns an error below.
            drop(requests.send(WriteRequest { appends, results: result_sender }).await);
        }
        // If the writer has ended after it received the request, it may have written the events. So the error is permanent:
        // the caller must not send the append again.
        let writer_ended =
            |_| vec![Err(AppendError::ReadOnly("the thread that writes the log has ended".to_owned())); count];
        match result_receiver.await {
            Ok(WriteAnswer { results, removed }) => {
                drop(removed);
                results
            }
            Err(error) => writer_ended(error),
        }
    }

    pub(in crate::store) async fn read_stream(
        &self,
        stream: StreamName,
        from: Revision,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        if let Some(mut events) = self.recent.stream(&stream) {
            let skipped = events.len().min(usize::try_from(from.0).unwrap_or(usize::MAX));
            events.drain(..skipped);
            return Ok(events);
        }
        self.readers.run(move |reader| reader.read_stream(&stream, from)).await
    }

    pub(in crate::store) async fn read_streams(
        &self,
        streams: Vec<StreamName>,
    ) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let mut in_memory: Vec<_> = streams.iter().map(|stream| self.recent.stream(stream)).collect();
        if in_memory.iter().all(Option::is_some) {
            return Ok(in_memory.into_iter().flatten().collect());
        }
        let read_streams = move |reader: &ReadConnection| {
            let mut read = streams.iter().zip(&mut in_memory).map(|(stream, in_memory)| match in_memory.take() {
                Some(events) => Ok(events),
                None => reader.read_stream(stream, Revision(0)),
            });
            reader.in_transaction(|_| read.by_ref().collect())
        };
        self.readers.run(read_streams).await
    }

    pub(in crate::store) async fn read_all(
        &self,
        after: Position,
        head: Position,
        limit: usize,
        bytes: usize,
    ) -> Result<Vec<Arc<Recorded>>, ReadError> {
        self.readers.run(move |reader| reader.read_range(after, head, limit, bytes)).await
    }

    pub(in crate::store) async fn fold<T: Send + 'static>(
        &self,
        upto: Position,
        mut state: T,
        apply: fn(&mut T, &Fact),
    ) -> Result<T, ReadError> {
        let path = self.readers.path().to_owned();
        let folding = tokio::task::spawn_blocking(move || {
            fold::fold(&path, upto, |fact| apply(&mut state, fact))?;
            Ok(state)
        });
        folding.await.map_err(|error| ReadError::Unavailable(error.to_string()))?
    }

    pub(in crate::store) fn write_ahead_log(&self) -> WriteAheadLog {
        self.progress.state()
    }

    pub(in crate::store) fn health(&self) -> Result<(), String> {
        self.state.health()?;
        if self.has_writer() { Ok(()) } else { Err("the thread that writes the log has ended".to_owned()) }
    }

    /// Whether the log takes no more writes in this process.
    pub(in crate::store) fn has_failed(&self) -> bool {
        self.state.failure().is_some() || !self.has_writer()
    }

    pub(in crate::store) async fn wait_for_health(&self, healthy: bool) -> Result<(), String> {
        if self.health().is_ok() == healthy { self.health() } else { self.state.wait_for(healthy).await }
    }

    fn has_writer(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| !writer.is_finished())
    }
}

impl Drop for Sqlite {
    /// Waits until the writer has written all requests of its queue and has ended. Then the folder is unlocked.
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
    }
}
