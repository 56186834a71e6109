//! The single thread that writes the log, with group commit: requests that arrive while one commit runs are written together
//! in the next commit. So a slow disk makes the groups larger. No timer delays a commit.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::checkpoint::{Checkpointer, Step};
use super::receive::{Received, receive_until};
use super::row::EventRow;
use super::write_connection::{StreamEnd, WriteConnection, WriteError};
use super::write_state::WriteState;
use crate::store::encoded::EncodedAppend;
use crate::store::recent::RecentEvents;
use crate::store::{AppendError, Expected, Head, Recorded, StreamName};
use crate::task::{IdMap, Revision};

/// When a group has this number of appends, no further request joins it.
const GROUP_APPENDS: usize = 4096;
/// When a group has this number of bytes of JSON, no further request joins it.
const GROUP_BYTES: usize = 8 << 20;
/// How many times the writer's thread yields its core before it begins a commit. If the cores are busy, another thread gets
/// time to prepare an append, which joins the commit. If the cores are idle, a yield costs nothing.
const YIELDS_PER_COMMIT: u32 = 1;
/// How many events a caller drops for each of its appends. Those that are left over are dropped by the writer.
const REMOVED_PER_APPEND: usize = 2;
/// The time between a write that was refused and the writer's own next try, if no request comes before.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// The largest number of streams whose end is cached. An append to a cached stream needs no query.
const STREAMS_MAX: usize = 100_000;

/// Appends that are written in one commit, and the channel to the caller that waits for their results.
pub(super) struct WriteRequest {
    pub(super) appends: Vec<EncodedAppend>,
    pub(super) results: oneshot::Sender<WriteAnswer>,
}

/// What the caller of a request receives.
pub(super) struct WriteAnswer {
    pub(super) results: AppendResults,
    /// Events that the log doesn't keep in memory any more. The caller drops them: that takes time, which the other requests
    /// would wait for.
    pub(super) removed: Vec<Arc<Recorded>>,
}

/// One result for each append of a request, in the order of the appends.
pub(super) type AppendResults = Vec<Result<Revision, AppendError>>;

/// The writer of the log. [`Writer::run`] is the body of its thread.
pub(super) struct Writer {
    connection: WriteConnection,
    recent: Arc<RecentEvents>,
    state: WriteState,
    /// When the writer tries by itself; set from a refused write until such a try has succeeded.
    next_try: Option<Instant>,
    /// The ends of streams that were written recently; at most [`STREAMS_MAX`], so that a client which chose names that collide
    /// would gain little.
    stream_ends: IdMap<StreamName, StreamEnd>,
    checkpointer: Checkpointer,
}

/// The events of a commit that has begun and is not durable yet.
struct CommitGroup {
    /// The end of the log after the commit.
    head: Head,
    written: Vec<Arc<Recorded>>,
}

impl Writer {
    pub(super) fn new(
        connection: WriteConnection,
        recent: Arc<RecentEvents>,
        state: WriteState,
        checkpointer: Checkpointer,
    ) -> Self {
        Self { connection, recent, state, next_try: None, stream_ends: IdMap::default(), checkpointer }
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<WriteRequest>) {
        loop {
            match receive_until(&mut queue, self.next_try) {
                Received::Request(first) => {
                    let requests = receive_group(first, &mut queue);
                    self.write_requests(requests);
                }
                Received::TimeIsOver => {}
                Received::Closed => break,
            }
            if self.next_try.is_some_and(|at| at <= Instant::now()) {
                self.try_to_write();
            }
            self.copy_write_ahead_log();
        }
        // The last checkpoint would find the file busy while the thread copies.
        drop(self.checkpointer);
        if self.state.failure().is_none() {
            self.connection.checkpoint();
        }
    }

    /// Does the next step of a checkpoint, when the callers have their results. After a failed write nothing is copied: it is
    /// unknown what the write-ahead log holds.
    fn copy_write_ahead_log(&self) {
        if self.state.failure().is_some() {
            return;
        }
        match self.checkpointer.progress().next_step() {
            Step::CopyBulk => self.checkpointer.start_bulk(),
            Step::CopyRest => self.connection.copy_rest(self.checkpointer.progress()),
            Step::Nothing => {}
        }
    }

    /// Writes the requests in one commit and sends each caller its results.
    fn write_requests(&mut self, requests: Vec<WriteRequest>) {
        let (appends, callers): (Vec<_>, Vec<_>) =
            requests.into_iter().map(|WriteRequest { appends, results }| (appends, results)).unzip();
        let counts: Vec<_> = appends.iter().map(Vec::len).collect();
        let all_failed = |error: AppendError| counts.iter().map(|count| vec![Err(error.clone()); *count]).collect();
        let (results, mut removed) =
            self.write_and_publish(appends).unwrap_or_else(|error| (all_failed(error), Vec::new()));
        for (caller, results) in callers.into_iter().zip(results) {
            // About as many events are removed as were written.
            let of_caller = removed.len().saturating_sub(results.len() * REMOVED_PER_APPEND);
            let removed = removed.split_off(of_caller);
            // An error means that the caller has dropped its future and needs no result.
            drop(caller.send(WriteAnswer { results, removed }));
        }
    }

    /// Writes all requests in one transaction. First the events become durable, then they are published, and then the
    /// results are returned, with the events that are not in memory any more.
    ///
    /// # Errors
    /// The transaction has failed. The error is the result of every append.
    fn write_and_publish(
        &mut self,
        requests: Vec<Vec<EncodedAppend>>,
    ) -> Result<(Vec<AppendResults>, Vec<Arc<Recorded>>), AppendError> {
        if let Some(failure) = self.state.failure() {
            return Err(AppendError::ReadOnly(failure));
        }
        match self.run_transaction(requests) {
            Ok((results, CommitGroup { head, written })) => {
                let removed = self.recent.publish(written, head);
                Ok((results, removed))
            }
            Err(error) => Err(self.recover(error)),
        }
    }

    /// Runs the transaction. Commits it if at least one append was inserted.
    fn run_transaction(
        &mut self,
        requests: Vec<Vec<EncodedAppend>>,
    ) -> Result<(Vec<AppendResults>, CommitGroup), WriteError> {
        let mut group = CommitGroup { head: self.recent.head(), written: Vec::new() };
        self.connection.begin()?;
        let results = requests
            .into_iter()
            .map(|appends| appends.into_iter().map(|append| self.insert_append(append, &mut group)).collect())
            .collect::<Result<Vec<AppendResults>, WriteError>>()?;
        if group.written.is_empty() {
            self.connection.rollback()?;
        } else {
            self.connection.commit()?;
            self.state.written();
        }
        Ok((results, group))
    }

    /// Writes to the log without an event. While the log can't be written, this shows when it can be written again, even if no
    /// request comes.
    fn try_to_write(&mut self) {
        match self.connection.check_room().and_then(|()| self.connection.write_nothing()) {
            Ok(()) => {
                self.next_try = None;
                self.state.written();
                self.state.end_outage();
            }
            Err(error) => _ = self.recover(error),
        }
    }

    /// Nothing was written, and a later write may succeed.
    fn note_refused(&mut self, why: &str) {
        if !self.state.is_unavailable() {
            // If the write-ahead log can't grow, it can still be written anew once all of it is copied.
            self.checkpointer.start_bulk();
        }
        self.next_try = Some(Instant::now() + TRY_INTERVAL);
        self.state.refused(why);
    }

    /// Inserts the events of one append into the open transaction. The inner result is the append's result; it is valid only
    /// when the group is committed.
    ///
    /// # Errors
    /// The outer error: the transaction has failed.
    fn insert_append(
        &mut self,
        append: EncodedAppend,
        group: &mut CommitGroup,
    ) -> Result<Result<Revision, AppendError>, WriteError> {
        let stream = append.stream.clone();
        let mut end = self.stream_end(&stream, append.expected)?;
        let head_before = group.head;
        let events = match append.into_recorded(end.map(|end| end.last), &mut group.head) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for event in events {
            let inserted = self.connection.insert(&EventRow::from(&event), end.map(|end| end.first))?;
            let Some(first) = inserted else {
                group.head = head_before;
                let actual = self.connection.stream_end(stream.as_str())?.map(|end| end.last);
                return Ok(Err(AppendError::WrongExpectedRevision { actual }));
            };
            end = Some(StreamEnd { first, last: event.revision });
            group.written.push(Arc::new(event));
        }
        // There is an end: an append has at least one event.
        if let Some(end) = end {
            self.remember_end(stream, end);
        }
        Ok(Ok(end.map_or(Revision(0), |end| end.last)))
    }

    /// Where the stream begins and ends. If the caller expects a new stream, this makes no query: if that stream exists, the
    /// insert of its first event fails.
    fn stream_end(&self, stream: &StreamName, expected: Expected) -> Result<Option<StreamEnd>, WriteError> {
        match (self.stream_ends.get(stream), expected) {
            (Some(end), _) => Ok(Some(*end)),
            (None, Expected::NoStream) => Ok(None),
            (None, Expected::Revision(_)) => self.connection.stream_end(stream.as_str()),
        }
    }

    fn remember_end(&mut self, stream: StreamName, end: StreamEnd) {
        if self.stream_ends.len() >= STREAMS_MAX {
            self.stream_ends.clear();
        }
        self.stream_ends.insert(stream, end);
    }

    /// Rolls back after a failed commit. If it is certain that nothing was written, later writes are possible. Otherwise the
    /// log takes no more writes in this process.
    fn recover(&mut self, error: WriteError) -> AppendError {
        self.stream_ends.clear();
        let is_unavailable = matches!(error, WriteError::Unavailable(_));
        let why = match error {
            WriteError::Unavailable(why) | WriteError::NothingWritten(why) => {
                match self.connection.rollback().and_then(|()| self.connection.head()) {
                    Ok(head) if head == self.recent.head() => {
                        if is_unavailable {
                            self.note_refused(&why);
                        }
                        return AppendError::Unavailable(why);
                    }
                    Ok(_) => format!("{why}; something else writes to the log"),
                    Err(second_error) => format!("{why}; then {}", second_error.into_reason()),
                }
            }
            WriteError::Unknown(why) => {
                // Even if the rollback succeeds, it is unknown what the disk holds.
                drop(self.connection.rollback());
                why
            }
        };
        self.next_try = None;
        // It is unknown what the write-ahead log holds.
        self.checkpointer.stop_copying();
        AppendError::ReadOnly(self.state.fail(why))
    }
}

/// Returns the first request and the requests that wait in the queue, up to the limits of one group.
fn receive_group(first: WriteRequest, queue: &mut mpsc::Receiver<WriteRequest>) -> Vec<WriteRequest> {
    let (mut appends, mut bytes) = request_size(&first);
    let mut requests = vec![first];
    let mut yields = YIELDS_PER_COMMIT;
    while appends < GROUP_APPENDS && bytes < GROUP_BYTES {
        let Ok(request) = queue.try_recv() else {
            if yields == 0 {
                break;
            }
            yields -= 1;
            std::thread::yield_now();
            continue;
        };
        let more = request_size(&request);
        (appends, bytes) = (appends + more.0, bytes + more.1);
        requests.push(request);
    }
    requests
}

/// The number of appends of a request, and the length of their JSON in bytes.
fn request_size(request: &WriteRequest) -> (usize, usize) {
    (request.appends.len(), request.appends.iter().map(|append| append.size).sum())
}
