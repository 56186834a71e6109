//! What makes batches fast stands under the actors: the appends that a shard's actors decide in one turn go to the log as
//! one write, and so do their reads.
//!
//! The first append (or read) after a flush spawns the next flush. That task stands at the end of the thread's run queue:
//! every actor that is ready to run decides before it, and what they decide is written together. No timer: a single
//! command waits for nobody, and a thousand of a batch wait for each other. What is decided while a write is under way
//! goes out with a flush of its own, and the log's writer groups again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

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
        self.store.read_stream(stream, from).await
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

/// Reads the streams in one transaction. Where that fails each is read by itself, so that one that is damaged fails alone.
async fn read_each(store: &EventStore, streams: Vec<StreamName>) -> Vec<Past> {
    if let Ok(pasts) = store.read_streams(streams.clone()).await {
        return pasts.into_iter().map(Ok).collect();
    }
    let mut pasts = Vec::with_capacity(streams.len());
    for stream in streams {
        pasts.push(store.read_stream(&stream, Revision(0)).await);
    }
    pasts
}
