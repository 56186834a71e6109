//! The one thread that writes, with group commit: the requests that arrive during a commit go into the next one together. A
//! slow disk makes larger groups instead of a longer queue. There is no timer.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::db::{LogFile, WriteError};
use crate::store::encoded::EncodedAppend;
use crate::store::recent::RecentEvents;
use crate::store::{AppendError, Expected, Head, Recorded, StreamName};
use crate::task::Revision;

/// A commit takes no further request from so many appends on.
const GROUP_APPENDS: usize = 4096;
/// A commit takes no further request from so many bytes of JSON on.
const GROUP_BYTES: usize = 8 << 20;
/// How often the writer yields its core before it begins a commit. Where the cores are busy, the next append is often what
/// they are busy with, and one commit for both costs half; where they are idle, this costs nothing.
const YIELDS: u32 = 1;
/// Streams whose last revision is remembered, so that an append to them needs no look-up.
const REVISIONS_MAX: usize = 100_000;

/// Appends that are written in one commit, and the caller that waits for their answers.
pub(super) struct WriteRequest {
    pub(super) appends: Vec<EncodedAppend>,
    pub(super) answer: oneshot::Sender<Answers>,
}

/// One for each append of a request, in its order.
type Answers = Vec<Result<Revision, AppendError>>;

pub(super) struct Writer {
    file: LogFile,
    recent: Arc<RecentEvents>,
    /// Why there are no more writes in this process.
    failure: Arc<OnceLock<String>>,
    last_revisions: HashMap<StreamName, Revision>,
}

/// The events of a commit that is under way.
struct Group {
    /// The end of the log once it is committed.
    head: Head,
    written: Vec<Arc<Recorded>>,
}

impl Writer {
    pub(super) fn new(file: LogFile, recent: Arc<RecentEvents>, failure: Arc<OnceLock<String>>) -> Self {
        Self { file, recent, failure, last_revisions: HashMap::new() }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<WriteRequest>) {
        while let Some(first) = queue.blocking_recv() {
            let requests = receive_group(first, &mut queue);
            self.write_requests(requests);
        }
        if self.failure.get().is_none() {
            self.file.checkpoint();
        }
    }

    fn write_requests(&mut self, requests: Vec<WriteRequest>) {
        let (appends, callers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|WriteRequest { appends, answer }| (appends, answer)).unzip();
        let counts: Vec<_> = appends.iter().map(Vec::len).collect();
        let failed = |error: AppendError| counts.iter().map(|count| vec![Err(error.clone()); *count]).collect();
        let answers = self.commit(appends).unwrap_or_else(failed);
        for (caller, answer) in callers.into_iter().zip(answers) {
            // A caller that has gone doesn't need its answer.
            drop(caller.send(answer));
        }
    }

    /// One transaction. The events are durable first, then published; the answers come last.
    fn commit(&mut self, requests: Vec<Vec<EncodedAppend>>) -> Result<Vec<Answers>, AppendError> {
        if let Some(failure) = self.failure.get() {
            return Err(AppendError::ReadOnly(failure.clone()));
        }
        match self.write(requests) {
            Ok((answers, Group { head, written })) => {
                self.recent.publish(written, head);
                Ok(answers)
            }
            Err(error) => Err(self.recover(error)),
        }
    }

    fn write(&mut self, requests: Vec<Vec<EncodedAppend>>) -> Result<(Vec<Answers>, Group), WriteError> {
        let mut group = Group { head: self.recent.head(), written: Vec::new() };
        self.file.begin()?;
        let answers = requests
            .into_iter()
            .map(|appends| appends.into_iter().map(|append| self.insert(append, &mut group)).collect())
            .collect::<Result<Vec<Answers>, WriteError>>()?;
        if group.written.is_empty() {
            self.file.rollback()?;
        } else {
            self.file.commit()?;
        }
        Ok((answers, group))
    }

    /// The answer to one append, which holds once the group is committed.
    fn insert(
        &mut self,
        append: EncodedAppend,
        group: &mut Group,
    ) -> Result<Result<Revision, AppendError>, WriteError> {
        let stream = append.stream.clone();
        let last = self.last_revision(&stream, append.expected)?;
        let head_before = group.head;
        let events = match append.into_recorded(last, &mut group.head) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut revision = Revision(0);
        for event in events {
            if !self.file.insert(&event)? {
                group.head = head_before;
                return Ok(Err(AppendError::WrongExpectedRevision { actual: self.file.last_revision(&stream)? }));
            }
            revision = event.revision;
            group.written.push(Arc::new(event));
        }
        self.remember(stream, revision);
        Ok(Ok(revision))
    }

    /// A stream that the caller expects to be new is not looked up: if it exists, the first insert is refused.
    fn last_revision(&self, stream: &StreamName, expected: Expected) -> Result<Option<Revision>, WriteError> {
        match (self.last_revisions.get(stream), expected) {
            (Some(last), _) => Ok(Some(*last)),
            (None, Expected::NoStream) => Ok(None),
            (None, Expected::Revision(_)) => self.file.last_revision(stream),
        }
    }

    fn remember(&mut self, stream: StreamName, revision: Revision) {
        if self.last_revisions.len() >= REVISIONS_MAX {
            self.last_revisions.clear();
        }
        self.last_revisions.insert(stream, revision);
    }

    /// After a failed commit: back to what the log holds, or no more writes where that is unknown.
    fn recover(&mut self, error: WriteError) -> AppendError {
        self.last_revisions.clear();
        let why = match error {
            WriteError::NothingWritten(why) => match self.file.rollback().and_then(|()| self.file.head()) {
                Ok(head) if head == self.recent.head() => return AppendError::Unavailable(why),
                Ok(_) => format!("{why}; something else writes to the log"),
                Err(WriteError::NothingWritten(and) | WriteError::Unknown(and)) => format!("{why}; then {and}"),
            },
            WriteError::Unknown(why) => {
                // What the disk holds is unknown whether this works or not.
                drop(self.file.rollback());
                why
            }
        };
        tracing::error!("the log takes no more writes: {why}");
        AppendError::ReadOnly(self.failure.get_or_init(|| why).clone())
    }
}

/// The first request and those that wait behind it, as many as one commit takes.
fn receive_group(first: WriteRequest, queue: &mut mpsc::Receiver<WriteRequest>) -> Vec<WriteRequest> {
    let (mut appends, mut bytes) = size(&first);
    let mut requests = vec![first];
    let mut yields = YIELDS;
    while appends < GROUP_APPENDS && bytes < GROUP_BYTES {
        let Ok(request) = queue.try_recv() else {
            if yields == 0 {
                break;
            }
            yields -= 1;
            std::thread::yield_now();
            continue;
        };
        let more = size(&request);
        (appends, bytes) = (appends + more.0, bytes + more.1);
        requests.push(request);
    }
    requests
}

/// Appends, and bytes of JSON.
fn size(request: &WriteRequest) -> (usize, usize) {
    (request.appends.len(), request.appends.iter().map(|append| append.size).sum())
}
