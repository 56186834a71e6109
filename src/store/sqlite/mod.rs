//! The log in a folder: an `SQLite` file, one thread that writes with group commit ([`writer`]), a pool of connections that
//! [`read`], and the newest events in memory. [`schema`] describes the tables, [`write_connection`] fills them, [`write_state`]
//! says whether the log can be written, and [`checkpoint`] keeps the write-ahead log short. [`open`] starts: [`complete`] compares
//! the files with each other and with the [`witness`], [`wal`] reads the write-ahead log, [`durable`] makes durable what an earlier
//! process has left, and [`witness_file`] follows the log. [`fold`] reads the whole log. [`check`] and [`indexes`] find damage.
//! `meta`, `row`, `interned` and `names` say how an event becomes a row and back. [`upgrade`] converts a log of format 1. [`verify`]
//! checks the log of a stopped server, and [`backup`] copies it.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::encoded::EncodedAppend;
use super::recent::{Bounds, RecentEvents};
use super::{AppendError, EventStore, Fact, OpenError, ReadError, Recorded, StoreBackend, StreamName};
use crate::task::{Position, Revision};

pub(super) mod backup;
mod check;
mod checkpoint;
mod complete;
mod durable;
mod fold;
mod folder;
mod format1;
mod indexes;
mod interned;
mod meta;
mod names;
mod open;
mod read;
mod receive;
mod row;
mod schema;
mod stored_event;
pub(super) mod upgrade;
pub(super) mod verify;
mod wal;
mod witness;
mod witness_file;
mod write_connection;
mod write_state;
mod writer;

pub use checkpoint::WriteAheadLog;
use checkpoint::{Checkpointer, Progress};
use folder::{create_folder, lock_folder};
use open::{OpenedLog, open_for_checkpoints};
use read::{ReadConnection, ReaderPool};
use witness_file::WitnessThread;
use write_state::WriteState;
use writer::{WriteAnswer, WriteRequest, Writer};

/// How many of the newest events stay in memory. A subscriber whose next event is one of them doesn't read the file.
const RECENT_BOUNDS: Bounds = Bounds { events: 8192, bytes: 16 << 20, by_stream: true };
/// The largest number of requests in the writer's queue. When the queue is full, callers wait until they can send theirs.
const QUEUE_CAPACITY: usize = 1024;

/// A revision that this stream has, as far as the caller knows.
pub(in crate::store) type KnownRevisions = dyn Fn(&StreamName) -> Option<Revision> + Send + Sync;

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
    /// What was damaged when it was read; empty if nothing was.
    damage: OnceLock<String>,
    /// The revisions that the streams have at least.
    known_revisions: OnceLock<Box<KnownRevisions>>,
    /// Ends after the writer.
    _witness: WitnessThread,
    /// The lock file, locked until the writer has ended: two servers can't share a folder.
    _lock: File,
}

/// What an open does if the log is not complete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truncation {
    /// It fails with [`OpenError::Incomplete`].
    #[default]
    Refuse,
    /// The log goes on with the events that it has, under a new id (epoch).
    Accept,
}

impl EventStore {
    /// Does the same as [`EventStore::open`]. `truncation` says what it does if the log is not complete.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_with(dir: &Path, truncation: Truncation) -> Result<Self, OpenError> {
        Sqlite::open(dir, truncation).map(|store| Self(StoreBackend::Sqlite(Arc::new(store))))
    }
}

impl Sqlite {
    fn open(dir: &Path, truncation: Truncation) -> Result<Self, OpenError> {
        create_folder(dir).map_err(|source| OpenError::Io { path: dir.to_owned(), source })?;
        let lock = lock_folder(dir)?;
        let path = dir.join("log.db");
        let OpenedLog { mut writer_connection, epoch, head, witness } = open::open(dir, &path, truncation)?;
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
        let witness = WitnessThread::start(witness, recent.clone());
        let witness = witness.map_err(|source| OpenError::Io { path: path.clone(), source })?;
        let readers = ReaderPool::new(path);
        Ok(Self {
            recent,
            epoch,
            readers,
            requests: Some(requests),
            writer: Some(thread),
            state,
            progress,
            damage: OnceLock::new(),
            known_revisions: OnceLock::new(),
            _witness: witness,
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
        let known = self.known_revision(&stream);
        self.readers.run(move |reader| reader.read_stream(&stream, from, known)).await
    }

    pub(in crate::store) async fn read_streams(
        &self,
        streams: Vec<StreamName>,
    ) -> Result<Vec<Vec<Arc<Recorded>>>, ReadError> {
        let mut in_memory: Vec<_> = streams.iter().map(|stream| self.recent.stream(stream)).collect();
        if in_memory.iter().all(Option::is_some) {
            return Ok(in_memory.into_iter().flatten().collect());
        }
        let known: Vec<_> = streams.iter().map(|stream| self.known_revision(stream)).collect();
        let read_streams = move |reader: &ReadConnection| {
            let streams = streams.iter().zip(known);
            let mut read = streams.zip(&mut in_memory).map(|((stream, known), in_memory)| match in_memory.take() {
                Some(events) => Ok(events),
                None => reader.read_stream(stream, Revision(0), known),
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
        range: (Position, Position),
        mut state: T,
        apply: fn(&mut T, &Fact),
    ) -> Result<T, ReadError> {
        let path = self.readers.path().to_owned();
        let is_whole = range == (Position(0), self.recent.head().position);
        let folding = tokio::task::spawn_blocking(move || {
            fold::fold(&path, range, is_whole, |fact| apply(&mut state, fact))?;
            Ok(state)
        });
        folding.await.map_err(|error| ReadError::Unavailable(error.to_string()))?
    }

    /// Compares each stream that is read from the file with what `known` knows of it. `known` is called before the read: a stream
    /// only grows.
    pub(in crate::store) fn compare_with(&self, known: Box<KnownRevisions>) {
        drop(self.known_revisions.set(known));
    }

    fn known_revision(&self, stream: &StreamName) -> Option<Revision> {
        self.known_revisions.get().and_then(|known| known(stream))
    }

    /// Notes what is damaged, unless damage was found before. Returns whether it is noted now.
    pub(in crate::store) fn note_damage(&self, what: &str) -> bool {
        self.damage.set(what.to_owned()).is_ok()
    }

    pub(in crate::store) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
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
