//! The collector joins the appends of all actors of one shard into one write, and their reads into one read. So the commands of
//! a batch are fast.
//!
//! The first append (or read) after a flush spawns a task that does the next flush. The thread's executor runs this task after
//! all actors that are ready now. So their appends are written together, and no timer is needed: a single command is written
//! at once, and the thousand commands of a batch are written together. Appends that are decided while a write is under way go
//! into the next flush. The log's writer joins the flushes of several threads.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::store::{Append, AppendError, EncodedAppend, EventStore, ReadError, Recorded, StreamName};
use crate::task::Revision;

/// The maximum number of appends (or of reads) in one flush.
const APPENDS_MAX: usize = 4096;
/// A group of appends with at least this many bytes is flushed at once.
const BYTES_MAX: usize = 8 << 20;

type AppendResult = Result<Revision, AppendError>;
type ReadResult = Result<Vec<Arc<Recorded>>, ReadError>;

/// Appends to the log for the actors of one shard. No other code appends to the log.
pub(super) struct Collector {
    store: EventStore,
    appends: RefCell<Group<EncodedAppend, AppendResult>>,
    reads: RefCell<Group<StreamName, ReadResult>>,
}

/// The requests for the next flush. `R` is a request, `A` its answer.
struct Group<R, A> {
    requests: Vec<R>,
    callers: Vec<oneshot::Sender<A>>,
    bytes: usize,
}

impl<R, A> Default for Group<R, A> {
    fn default() -> Self {
        Self { requests: Vec::new(), callers: Vec::new(), bytes: 0 }
    }
}

impl<R, A> Group<R, A> {
    /// Adds a request. Returns the receiver of its answer, and whether it is the first request of the group.
    fn add(&mut self, request: R, bytes: usize) -> (oneshot::Receiver<A>, bool) {
        let (caller, answer) = oneshot::channel();
        self.requests.push(request);
        self.callers.push(caller);
        self.bytes += bytes;
        (answer, self.requests.len() == 1)
    }

    fn is_full(&self) -> bool {
        self.requests.len() >= APPENDS_MAX || self.bytes >= BYTES_MAX
    }

    /// Sends each caller its answer. Callers and answers are in the order of the requests. A caller that has gone gets none.
    fn answer(callers: Vec<oneshot::Sender<A>>, answers: impl IntoIterator<Item = A>) {
        for (caller, answer) in callers.into_iter().zip(answers) {
            drop(caller.send(answer));
        }
    }
}

impl Collector {
    /// A collector for the actors of one shard, which run on the current thread.
    pub(super) fn new(store: EventStore) -> Rc<Self> {
        Rc::new(Self { store, appends: RefCell::default(), reads: RefCell::default() })
    }

    /// Writes one append, all of its events or none, in the next flush.
    pub(super) async fn write(self: &Rc<Self>, append: Append) -> AppendResult {
        let encoded = EncodedAppend::new(append);
        let bytes = encoded.size;
        let (answer, is_first) = self.appends.borrow_mut().add(encoded, bytes);
        if self.appends.borrow().is_full() {
            actix_rt::spawn(self.flush_appends());
        } else if is_first {
            let this = Rc::clone(self);
            actix_rt::spawn(async move { this.flush_appends().await });
        }
        // A flush is dropped only if the thread ends. Then it is unknown what was written.
        answer.await.unwrap_or_else(|_| {
            Err(AppendError::ReadOnly("the write was aborted; it is unknown whether it was done".to_owned()))
        })
    }

    /// Reads the events of a stream from its beginning, in the next flush of reads.
    pub(super) async fn read(self: &Rc<Self>, stream: StreamName) -> ReadResult {
        let (answer, is_first) = self.reads.borrow_mut().add(stream, 0);
        if self.reads.borrow().is_full() {
            actix_rt::spawn(self.flush_reads());
        } else if is_first {
            let this = Rc::clone(self);
            actix_rt::spawn(async move { this.flush_reads().await });
        }
        answer.await.unwrap_or_else(|_| Err(ReadError::Unavailable("the read was aborted".to_owned())))
    }

    /// Reads the events of a stream after this revision, at once.
    pub(super) async fn read_after(&self, stream: &StreamName, last: Revision) -> ReadResult {
        self.store.read_after(stream, last).await
    }

    /// The numbers of appends and of reads that wait for the next flush.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.appends.borrow().requests.len(), self.reads.borrow().requests.len())
    }

    /// Takes the group and writes it. If the group was full and another flush has taken it, there is nothing to do.
    fn flush_appends(&self) -> impl Future<Output = ()> + use<> {
        let (store, Group { requests, callers, .. }) = (self.store.clone(), self.appends.take());
        async move {
            if !requests.is_empty() {
                Group::<EncodedAppend, _>::answer(callers, store.append_encoded(requests).await);
            }
        }
    }

    /// Takes the group of reads and reads the streams.
    fn flush_reads(&self) -> impl Future<Output = ()> + use<> {
        let (store, Group { requests, callers, .. }) = (self.store.clone(), self.reads.take());
        async move {
            if !requests.is_empty() {
                Group::<StreamName, _>::answer(callers, read_each(&store, requests).await);
            }
        }
    }
}

/// Reads the streams in one transaction. If that fails, each is read by itself, so that only the damaged stream fails. If a
/// cluster is unavailable, all fail at once.
async fn read_each(store: &EventStore, streams: Vec<StreamName>) -> Vec<ReadResult> {
    match store.read_many_for_decision(streams.clone()).await {
        Ok(pasts) => pasts.into_iter().map(Ok).collect(),
        Err(error) if error.is_transient() && store.is_shared() && store.health().is_err() => {
            vec![Err(error); streams.len()]
        }
        Err(_) => join_all(streams.iter().map(|stream| store.read_for_decision(stream, Revision(0)))).await,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::poll;

    use super::*;
    use crate::store::{Expected, Meta, NewEvent, Via, new_id, now};
    use crate::task::queue::{Paused, QueueEvent};

    fn stream(number: usize) -> StreamName {
        StreamName::queue(&format!("queue-{number}"))
    }

    /// An append of the first event of a stream, with a text of this many bytes.
    fn append(number: usize, bytes: usize) -> Append {
        let meta = Meta {
            actor: "ann".to_owned(),
            via: Via::Http,
            correlation_id: new_id(),
            causation_id: None,
            request_id: None,
        };
        let event = QueueEvent::Paused(Paused { reason: Some("r".repeat(bytes)) }).into();
        let events = vec![NewEvent { id: new_id(), time: now(), meta, event }];
        Append { stream: stream(number), expected: Expected::NoStream, events }
    }

    fn head(store: &EventStore) -> u64 {
        store.head().position.0
    }

    /// The number of commits in the write-ahead log of the SQLite database in this folder. In this file format, the frame that
    /// ends a transaction holds the size of the database; other frames hold zero.
    fn commits(dir: &Path) -> usize {
        let mut files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
        let wal = files.find(|file| file.to_string_lossy().ends_with("-wal")).expect("a write-ahead log");
        let wal = std::fs::read(wal).unwrap();
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        let (salt, page) = (&wal[16..24], number(&wal[8..12]) as usize);
        let frames = wal[32..].chunks_exact(24 + page);
        frames.take_while(|frame| &frame[8..16] == salt).filter(|frame| number(&frame[4..8]) > 0).count()
    }

    #[actix_rt::test]
    async fn appends_of_all_ready_actors_are_written_in_one_transaction_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let store = EventStore::open(dir.path()).unwrap();
        let collector = Collector::new(store.clone());
        collector.write(append(1000, 1)).await.unwrap();
        let before = commits(dir.path());
        let mut all = join_all((0..1000).map(|number| collector.write(append(number, 1))));
        assert!(poll!(&mut all).is_pending());
        assert_eq!((collector.waiting(), head(&store)), ((1000, 0), 1));
        assert!(all.await.iter().all(|answer| *answer == Ok(Revision(0))));
        assert_eq!((commits(dir.path()) - before, head(&store)), (1, 1001));
    }

    #[actix_rt::test]
    async fn a_single_append_waits_for_no_other() {
        let collector = Collector::new(EventStore::memory());
        assert_eq!(collector.write(append(0, 1)).await, Ok(Revision(0)));
        assert_eq!(collector.waiting(), (0, 0));
    }

    #[actix_rt::test]
    async fn a_group_that_is_full_is_flushed_before_the_other_actors_have_run() {
        let store = EventStore::memory();
        let collector = Collector::new(store.clone());
        let mut all = join_all((0..10_000).map(|number| collector.write(append(number, 1))));
        assert!(poll!(&mut all).is_pending());
        assert_eq!(collector.waiting(), (10_000 - 2 * APPENDS_MAX, 0));
        assert!(all.await.iter().all(|answer| *answer == Ok(Revision(0))));
        assert_eq!(head(&store), 10_000);
    }

    #[actix_rt::test]
    async fn a_group_is_full_of_bytes_too() {
        let store = EventStore::memory();
        let collector = Collector::new(store.clone());
        let mut all =
            join_all([1, BYTES_MAX, 2, 3].into_iter().enumerate().map(|(n, size)| collector.write(append(n, size))));
        assert!(poll!(&mut all).is_pending());
        assert_eq!(collector.waiting(), (2, 0), "the first two are flushed");
        assert!(all.await.iter().all(|answer| *answer == Ok(Revision(0))));
        assert_eq!(head(&store), 4);
    }

    #[actix_rt::test]
    async fn an_append_that_is_refused_leaves_the_others_of_its_group_alone() {
        let store = EventStore::memory();
        let collector = Collector::new(store.clone());
        let answers = join_all([1, 2, 1, 3].map(|number| collector.write(append(number, 1)))).await;
        let refused = AppendError::WrongExpectedRevision { actual: Some(Revision(0)) };
        assert_eq!(answers, [Ok(Revision(0)), Ok(Revision(0)), Err(refused), Ok(Revision(0))]);
        assert_eq!(head(&store), 3);
    }

    #[actix_rt::test]
    async fn an_append_whose_caller_has_gone_is_written_and_the_others_get_their_own_answers() {
        let store = EventStore::memory();
        let collector = Collector::new(store.clone());
        {
            let gone = std::pin::pin!(collector.write(append(1, 1)));
            assert!(poll!(gone).is_pending());
        }
        let answers = join_all([1, 2].map(|number| collector.write(append(number, 1)))).await;
        assert!(matches!(answers[..], [Err(AppendError::WrongExpectedRevision { .. }), Ok(_)]), "{answers:?}");
        assert_eq!(head(&store), 2);
    }

    #[actix_rt::test]
    async fn reads_of_all_ready_actors_are_done_together_and_each_gets_its_own_stream() {
        let collector = Collector::new(EventStore::memory());
        join_all((0..50).map(|number| collector.write(append(number, number)))).await;
        let mut all = join_all((0..100).map(|number| collector.read(stream(number))));
        assert!(poll!(&mut all).is_pending());
        assert_eq!(collector.waiting(), (0, 100));
        for (number, past) in all.await.into_iter().enumerate() {
            let past = past.unwrap();
            assert_eq!(past.len(), usize::from(number < 50));
            assert!(past.iter().all(|event| event.stream == stream(number)));
        }
    }
}
