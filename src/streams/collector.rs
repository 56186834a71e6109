//! The collector makes batches fast. It joins the appends that the actors of one thread decide in one turn of the run queue
//! into one write, and their reads into one read.
//!
//! The first append (or read) after a flush spawns the next flush. That task stands at the end of the thread's run queue:
//! every actor that is ready to run decides before it, and what they decide is written together. No timer: a single
//! command waits for no other, and a thousand of a batch wait for each other. What is decided while a write is under way
//! goes out with a flush of its own, and the log's writer groups again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::store::{Append, AppendError, EncodedAppend, EventStore, ReadError, Recorded, StreamName};
use crate::task::Revision;

/// Appends of one flush at most.
const APPENDS_MAX: usize = 4096;
/// Bytes of one flush at most, apart from its last append.
const BYTES_MAX: usize = 8 << 20;

type Written = Result<Revision, AppendError>;
type Past = Result<Vec<Arc<Recorded>>, ReadError>;

/// The one caller of the log's `append`: each shard has a collector.
pub(super) struct Collector {
    store: EventStore,
    appends: RefCell<Group<EncodedAppend, Written>>,
    reads: RefCell<Group<StreamName, Past>>,
}

/// What the next flush takes.
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
    /// Adds a request; where its answer arrives, and whether it is the first one.
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

    /// Sends the answers, which are in the order of the requests. A caller that has gone needs none.
    fn answer(callers: Vec<oneshot::Sender<A>>, answers: impl IntoIterator<Item = A>) {
        for (caller, answer) in callers.into_iter().zip(answers) {
            drop(caller.send(answer));
        }
    }
}

impl Collector {
    /// A collector for the actors of the current thread.
    pub(super) fn new(store: EventStore) -> Rc<Self> {
        Rc::new(Self { store, appends: RefCell::default(), reads: RefCell::default() })
    }

    /// Writes one append, all of it or nothing, together with what the other actors of this turn decide.
    pub(super) async fn write(self: &Rc<Self>, append: Append) -> Written {
        let encoded = EncodedAppend::new(append);
        let bytes = encoded.size;
        let (answer, is_first) = self.appends.borrow_mut().add(encoded, bytes);
        if self.appends.borrow().is_full() {
            actix_rt::spawn(self.flush());
        } else if is_first {
            let this = Rc::clone(self);
            actix_rt::spawn(async move { this.flush().await });
        }
        // Only the end of the thread gives up a flush; what it wrote is unknown.
        answer.await.unwrap_or_else(|_| Err(AppendError::ReadOnly("the write was given up half-way".to_owned())))
    }

    /// The events of a stream from its beginning, read together with those that other actors of this turn need.
    pub(super) async fn read(self: &Rc<Self>, stream: StreamName) -> Past {
        let (answer, is_first) = self.reads.borrow_mut().add(stream, 0);
        if self.reads.borrow().is_full() {
            actix_rt::spawn(self.fetch());
        } else if is_first {
            let this = Rc::clone(self);
            actix_rt::spawn(async move { this.fetch().await });
        }
        answer.await.unwrap_or_else(|_| Err(ReadError::Unavailable("the read was given up".to_owned())))
    }

    /// The events of a stream from a revision on.
    pub(super) async fn read_from(&self, stream: &StreamName, from: Revision) -> Past {
        self.store.read_for_decision(stream, from).await
    }

    /// How many appends and how many reads wait for the next flush.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> (usize, usize) {
        (self.appends.borrow().requests.len(), self.reads.borrow().requests.len())
    }

    /// Takes what has been collected and writes it. A flush whose group was full already, and so is gone, finds nothing.
    fn flush(&self) -> impl Future<Output = ()> + use<> {
        let (store, Group { requests, callers, .. }) = (self.store.clone(), self.appends.take());
        async move {
            if !requests.is_empty() {
                Group::<EncodedAppend, _>::answer(callers, store.append_encoded(requests).await);
            }
        }
    }

    /// The same for the reads.
    fn fetch(&self) -> impl Future<Output = ()> + use<> {
        let (store, Group { requests, callers, .. }) = (self.store.clone(), self.reads.take());
        async move {
            if !requests.is_empty() {
                Group::<StreamName, _>::answer(callers, read_each(&store, requests).await);
            }
        }
    }
}

/// Reads the streams in one transaction. Where that fails each is read by itself, so that one that is damaged fails alone; not
/// where the whole log is away.
async fn read_each(store: &EventStore, streams: Vec<StreamName>) -> Vec<Past> {
    match store.read_many_for_decision(streams.clone()).await {
        Ok(pasts) => pasts.into_iter().map(Ok).collect(),
        Err(error) if error.is_transient() && store.health().is_err() => vec![Err(error); streams.len()],
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

    /// The first event of a stream, with so many bytes of text.
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

    /// The commits in the write-ahead log of the SQLite database in this folder. In the file format a frame that ends a
    /// transaction names the size of the database; the others name zero.
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
    async fn the_appends_of_one_turn_wait_for_each_other_and_are_one_transaction_of_the_log() {
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
    async fn a_group_that_is_full_leaves_before_the_turn_is_over() {
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
        assert_eq!(collector.waiting(), (2, 0), "the first two have left");
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
    async fn the_reads_of_one_turn_wait_for_each_other_and_each_gets_its_own_stream() {
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
