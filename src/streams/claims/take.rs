//! The steps of a create and a retry whose keys are claimed; see the [module](super).

use std::sync::Arc;
use std::time::Duration;

use super::record::{Claim, Key, KeyKind};
use crate::store::aside::AsideExpected;
use crate::store::{AppendError, EventStore, LogEvent, Meta, NewEvent, Recorded, StreamName, new_id};
use crate::streams::messages::{Accepted, Begin, Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::backoff::{BackOff, with_jitter};
use crate::task::event::{Created, Idempotency};
use crate::task::{Command, Decider, Event, Rejection, Revision, TaskId, TaskStream, Timestamp};

/// How often a step is tried again because another server was faster.
const TRIES_MAX: usize = 10;
/// The pauses between the tries.
const PAUSES: BackOff = BackOff::new(Duration::from_millis(2), Duration::from_millis(100));

/// Creates a task with keys.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::IdempotencyKeyReused`] where a request with another body has the idempotency key, and
/// [`Rejection::AlreadyExists`] where a task with this id exists.
pub(in crate::streams) async fn create(
    registry: &Registry,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: &Meta,
) -> Result<Accepted, ExecuteError> {
    let idempotency = created.idempotency.clone();
    let begin = Past::default().decide(id, &Command::Create(Arc::new(created)), at, meta)?;
    if let Some(holder) = claim_unique(registry, Claim::unique(&begin)?).await? {
        if holder == id {
            return Ok(Accepted::Known(id));
        }
        // The holder may be the task of this very request, sent before.
        let Some(idempotency) = &idempotency else { return Ok(Accepted::Held(holder)) };
        let known = find_idempotent(registry, &meta.actor, &idempotency.key).await?;
        return known.map_or(Ok(Accepted::Held(holder)), |known| repeated(known, idempotency));
    }
    if let (Some(known), Some(idempotency)) = (claim_idempotency(registry, &begin).await?, &idempotency) {
        is_open(registry, &known).await?;
        return repeated((known.task, known.body_hash.unwrap_or_default()), idempotency);
    }
    match registry.begin(begin).await {
        Ok(receipt) => Ok(Accepted::New(id, Box::new(receipt))),
        Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => Err(Rejection::AlreadyExists.into()),
        Err(error) => Err(error),
    }
}

/// One more run of a final task. Where the task has a unique key, the run claims it.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::UniqueKeyTaken`] where a run of another task is open.
pub(in crate::streams) async fn retry(registry: &Registry, retry: Execute) -> Result<Receipt, ExecuteError> {
    let mut pauses = PAUSES;
    for _ in 0..TRIES_MAX {
        let past = Past::read(registry.store(), retry.task).await?;
        let task = past.state.0.as_ref().ok_or(Rejection::NotFound)?;
        let Some(key) = &task.created.unique_key else { return registry.execute(retry).await };
        let key = Key::unique(&task.created.owner, key);
        let begin = past.decide(retry.task, &retry.command, retry.at, &retry.meta)?;
        match claim_unique(registry, Some(Claim::new(key, None, &begin)?)).await? {
            // Another server has begun this run.
            Some(holder) if holder == retry.task => return Err(Rejection::NotFinal.into()),
            Some(holder) => return Err(Rejection::UniqueKeyTaken(holder).into()),
            None => {}
        }
        match registry.begin(begin).await {
            // The task has run once more since it was read: the claim is void.
            Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => pause(&mut pauses).await,
            answer => return answer,
        }
    }
    Err(OVERTAKEN)
}

/// The task for which this idempotency key of the caller was claimed, and the hash of the request's body. The task exists
/// when this answers.
///
/// # Errors
/// Where the log can't be read or written.
pub(in crate::streams) async fn find_idempotent(
    registry: &Registry,
    caller: &str,
    key: &str,
) -> Result<Option<(TaskId, String)>, ExecuteError> {
    let Some((claim, _)) = Claim::last(registry.store(), &Key::idempotency(caller, key)).await? else {
        return Ok(None);
    };
    is_open(registry, &claim).await?;
    Ok(Some((claim.task, claim.body_hash.unwrap_or_default())))
}

/// The answer to a request whose idempotency key was claimed before.
fn repeated((task, body_hash): (TaskId, String), request: &Idempotency) -> Result<Accepted, ExecuteError> {
    if body_hash == request.body_hash { Ok(Accepted::Known(task)) } else { Err(Rejection::IdempotencyKeyReused.into()) }
}

/// Claims the unique key, unless the run that has it is open: then it answers the task of that run.
async fn claim_unique(registry: &Registry, claim: Option<Claim>) -> Result<Option<TaskId>, ExecuteError> {
    let Some(claim) = claim else { return Ok(None) };
    let mut pauses = PAUSES;
    for _ in 0..TRIES_MAX {
        let expected = match Claim::last(registry.store(), &claim.key).await? {
            None => AsideExpected::NoStream,
            Some((held, revision)) => {
                let is_same = held.task == claim.task && claim.expected.is_none();
                if is_open(registry, &held).await? || is_same {
                    return Ok(Some(held.task));
                }
                AsideExpected::Revision(revision)
            }
        };
        if claim.write(registry.store(), expected).await? {
            return Ok(None);
        }
        pause(&mut pauses).await;
    }
    Err(OVERTAKEN)
}

/// Claims the idempotency key of this begin, if it has one; answers the claim of another task that has the key.
async fn claim_idempotency(registry: &Registry, begin: &Begin) -> Result<Option<Claim>, ExecuteError> {
    let Some(claim) = Claim::idempotency(begin)? else { return Ok(None) };
    if claim.write(registry.store(), AsideExpected::NoStream).await? {
        return Ok(None);
    }
    let (first, _) = Claim::last(registry.store(), &claim.key).await?.ok_or(OVERTAKEN)?;
    Ok(Some(first).filter(|first| first.task != claim.task))
}

/// Whether the claim's run is under way. A run that hasn't begun is begun first, unless the claim is void.
async fn is_open(registry: &Registry, claim: &Claim) -> Result<bool, ExecuteError> {
    let past = Past::read(registry.store(), claim.task).await?;
    let unfinished = if past.revision == claim.expected { claim.begin()? } else { None };
    let Some(begin) = unfinished else { return Ok(past.is_open()) };
    if claim.key.kind == KeyKind::Unique && claim_idempotency(registry, &begin).await?.is_some() {
        return Ok(false);
    }
    match registry.begin(begin).await {
        Ok(_) => Ok(true),
        // Since it was read, the stream has got another event at this revision: the run never begins.
        Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => {
            Ok(Past::read(registry.store(), claim.task).await?.is_open())
        }
        Err(error) => Err(error),
    }
}

async fn pause(pauses: &mut BackOff) {
    tokio::time::sleep(with_jitter(pauses.next_pause(), 0.5, fastrand::f64())).await;
}

const OVERTAKEN: ExecuteError = ExecuteError::Busy("other servers overtook every try");

/// A task's stream, as it is read for a decision.
#[derive(Default)]
struct Past {
    state: TaskStream,
    revision: Option<Revision>,
    time: Option<Timestamp>,
}

impl Past {
    async fn read(store: &EventStore, task: TaskId) -> Result<Self, ExecuteError> {
        let mut past = Self::default();
        for recorded in store.read_past(&StreamName::task(task), Revision(0)).await? {
            past.apply(&recorded);
        }
        Ok(past)
    }

    fn apply(&mut self, recorded: &Recorded) {
        if let LogEvent::Task(event) = &recorded.event {
            self.state.evolve(event);
        }
        self.revision = Some(recorded.revision);
        self.time = Some(recorded.time);
    }

    fn is_open(&self) -> bool {
        self.state.0.as_ref().is_some_and(|task| !task.status.is_final())
    }

    /// The begin of a run after this past.
    fn decide(&self, task: TaskId, command: &Command, at: Timestamp, meta: &Meta) -> Result<Begin, Rejection> {
        let at = self.time.map_or(at, |last| last.max(at));
        let new = |event: Event| NewEvent { id: new_id(), time: at, meta: meta.clone(), event: LogEvent::Task(event) };
        let events = self.state.decide(command, at)?.into_iter().map(new).collect();
        Ok(Begin { task, expected: self.revision, events })
    }
}
