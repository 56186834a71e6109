//! The one thread that writes. Group commit: whatever waits when a commit ends goes into the next, so that a slow disk
//! makes larger groups instead of a longer queue; no timer.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use tokio::sync::{mpsc, oneshot};

use super::db::{Fault, Log};
use crate::store::draft::Draft;
use crate::store::tail::Tail;
use crate::store::{AppendError, Expected, Head, Recorded, StreamName};
use crate::task::Revision;

/// Appends of one commit, about.
const BATCH: usize = 4096;
/// Bytes of JSON of one commit, about.
const BATCH_BYTES: usize = 8 << 20;
/// How often the writer lets others run before it begins a commit. Where the cores are busy, what they are busy with is
/// often the next append, and one commit for both costs half; where they are idle, this costs nothing.
const YIELDS: u32 = 1;
/// Streams whose last revision is remembered, so that an append to them needs no look-up.
const HEADS: usize = 100_000;

/// Appends that are written together, and who waits for their answers.
pub(super) struct Job {
    pub(super) drafts: Vec<Draft>,
    pub(super) answer: oneshot::Sender<Answers>,
}

type Answers = Vec<Result<Revision, AppendError>>;

pub(super) struct Writer {
    log: Log,
    tail: Arc<Tail>,
    fault: Arc<OnceLock<String>>,
    heads: HashMap<StreamName, Revision>,
}

/// A commit on its way.
struct Group {
    tip: Head,
    written: Vec<Arc<Recorded>>,
}

impl Writer {
    pub(super) fn new(log: Log, tail: Arc<Tail>, fault: Arc<OnceLock<String>>) -> Self {
        Self { log, tail, fault, heads: HashMap::new() }
    }

    /// Writes until nobody is left who could ask, and the queue is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            let (mut appends, mut bytes) = size(&job);
            let mut jobs = vec![job];
            let mut yields = YIELDS;
            while appends < BATCH && bytes < BATCH_BYTES {
                let Ok(job) = queue.try_recv() else {
                    if yields == 0 {
                        break;
                    }
                    yields -= 1;
                    std::thread::yield_now();
                    continue;
                };
                let more = size(&job);
                (appends, bytes) = (appends + more.0, bytes + more.1);
                jobs.push(job);
            }
            self.serve(jobs);
        }
        if self.fault.get().is_none() {
            self.log.settle();
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let (drafts, callers): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|Job { drafts, answer }| (drafts, answer)).unzip();
        let counts: Vec<_> = drafts.iter().map(Vec::len).collect();
        let failed = |error: AppendError| counts.iter().map(|count| vec![Err(error.clone()); *count]).collect();
        let answers = self.commit(drafts).unwrap_or_else(failed);
        for (caller, answer) in callers.into_iter().zip(answers) {
            // Whoever has gone doesn't need the answer.
            drop(caller.send(answer));
        }
    }

    /// One transaction. After it: durable, shown, answered, in this order.
    fn commit(&mut self, jobs: Vec<Vec<Draft>>) -> Result<Vec<Answers>, AppendError> {
        if let Some(fault) = self.fault.get() {
            return Err(AppendError::ReadOnly(fault.clone()));
        }
        match self.write(jobs) {
            Ok((answers, Group { tip, written })) => {
                self.tail.publish(written, tip);
                Ok(answers)
            }
            Err(fault) => Err(self.recover(fault)),
        }
    }

    fn write(&mut self, jobs: Vec<Vec<Draft>>) -> Result<(Vec<Answers>, Group), Fault> {
        let mut group = Group { tip: self.tail.head(), written: Vec::new() };
        self.log.begin()?;
        let answers = jobs
            .into_iter()
            .map(|drafts| drafts.into_iter().map(|draft| self.insert(draft, &mut group)).collect())
            .collect::<Result<Vec<Answers>, Fault>>()?;
        if group.written.is_empty() {
            self.log.rollback()?;
        } else {
            self.log.commit()?;
        }
        Ok((answers, group))
    }

    /// The answer to one append, true once the group is committed.
    fn insert(&mut self, draft: Draft, group: &mut Group) -> Result<Result<Revision, AppendError>, Fault> {
        let stream = draft.stream.clone();
        // A stream that is said to be new is not looked up: if it is there, the first insert says so.
        let believed_new = draft.expected == Expected::NoStream;
        let last = match self.heads.get(&stream) {
            Some(last) => Some(*last),
            None if believed_new => None,
            None => self.log.last(&stream)?,
        };
        let tip = group.tip;
        let events = match draft.seal(last, &mut group.tip) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut revision = Revision(0);
        for event in events {
            if !self.log.insert(&event)? {
                group.tip = tip;
                return Ok(Err(AppendError::WrongExpectedRevision { actual: self.log.last(&stream)? }));
            }
            revision = event.revision;
            group.written.push(Arc::new(event));
        }
        if self.heads.len() >= HEADS {
            self.heads.clear();
        }
        self.heads.insert(stream, revision);
        Ok(Ok(revision))
    }

    /// Back to what the log holds, or to no more writes where that isn't known.
    fn recover(&mut self, fault: Fault) -> AppendError {
        self.heads.clear();
        let why = match fault {
            Fault::Nothing(why) => match self.log.rollback().and_then(|()| self.log.head()) {
                Ok(head) if head == self.tail.head() => return AppendError::Unavailable(why),
                Ok(_) => format!("{why}; something else writes to the log"),
                Err(Fault::Nothing(and) | Fault::Unknown(and)) => format!("{why}; then {and}"),
            },
            Fault::Unknown(why) => {
                // What the disk holds is unknown whether this works or not.
                drop(self.log.rollback());
                why
            }
        };
        tracing::error!("the log takes no more writes: {why}");
        AppendError::ReadOnly(self.fault.get_or_init(|| why).clone())
    }
}

fn size(job: &Job) -> (usize, usize) {
    (job.drafts.len(), job.drafts.iter().map(|draft| draft.size).sum())
}
