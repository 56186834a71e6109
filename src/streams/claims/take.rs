//! The steps of a create and of a retry with claims; see the [module above](super).

use std::sync::Arc;
use std::time::Duration;

use super::record::{Claim, ClaimKey, KeyKind};
use crate::store::auxiliary::AuxiliaryExpected;
use crate::store::{AppendError, EventStore, LogEvent, Meta, NewEvent, Recorded, StreamName, new_id};
use crate::streams::messages::{Accepted, BeginRun, Execute, ExecuteError, Receipt};
use crate::streams::registry::Registry;
use crate::task::backoff::{BackOff, with_jitter};
use crate::task::event::{Created, Idempotency};
use crate::task::{Command, Decider, Event, Rejection, Revision, TaskId, TaskStream, Timestamp};

/// How many times a step is tried, if another server is faster each time.
const TRIES_MAX: usize = 10;
/// The pauses between the tries.
const PAUSES: BackOff = BackOff::new(Duration::from_millis(2), Duration::from_millis(100));

/// Creates a task that has a unique key, an idempotency key or both.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::IdempotencyKeyReused`] if the idempotency key was used with another request body, and
/// [`Rejection::AlreadyExists`] if a task with this id exists.
pub(in crate::streams) async fn create(
    registry: &Registry,
    created: Created,
    id: TaskId,
    at: Timestamp,
    meta: &Meta,
) -> Result<Accepted, ExecuteError> {
    let idempotency = created.idempotency.clone();
    let begin = TaskHistory::default().decide(id, &Command::Create(Arc::new(created)), at, meta)?;
    if let Some(holder) = claim_unique(registry, Claim::unique(&begin)?).await? {
        if holder == id {
            return Ok(Accepted::Repeated(id));
        }
        // The task that holds the unique key may be the result of the same request, sent before.
        let Some(idempotency) = &idempotency else { return Ok(Accepted::KeyHeld(holder)) };
        let known = find_idempotent(registry, &meta.actor, &idempotency.key).await?;
        return known.map_or(Ok(Accepted::KeyHeld(holder)), |known| answer_repeated(known, idempotency));
    }
    if let (Some(known), Some(idempotency)) = (claim_idempotency(registry, &begin).await?, &idempotency) {
        ensure_begun(registry, &known).await?;
        return answer_repeated((known.task, known.body_hash.unwrap_or_default()), idempotency);
    }
    match registry.begin_run(begin).await {
        Ok(receipt) => Ok(Accepted::New(id, Box::new(receipt))),
        Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => Err(Rejection::AlreadyExists.into()),
        Err(error) => Err(error),
    }
}

/// Begins another run of a final task. If the task has a unique key, the key is claimed first.
///
/// # Errors
/// See [`ExecuteError`]; [`Rejection::UniqueKeyTaken`] if another task with the key has an open run.
pub(in crate::streams) async fn retry(registry: &Registry, retry: Execute) -> Result<Receipt, ExecuteError> {
    let mut pauses = PAUSES;
    for _ in 0..TRIES_MAX {
        let history = TaskHistory::read(registry.store(), retry.task).await?;
        let task = history.state.0.as_ref().ok_or(Rejection::NotFound)?;
        let Some(key) = &task.created.unique_key else { return registry.execute(retry).await };
        let key = ClaimKey::unique(&task.created.owner, key);
        let begin = history.decide(retry.task, &retry.command, retry.at, &retry.meta)?;
        match claim_unique(registry, Some(Claim::new(key, None, &begin)?)).await? {
            // Another server has begun this run.
            Some(holder) if holder == retry.task => return Err(Rejection::NotFinal.into()),
            Some(holder) => return Err(Rejection::UniqueKeyTaken(holder).into()),
            None => {}
        }
        match registry.begin_run(begin).await {
            // The task's stream has got another event since it was read, so this claim is void.
            Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => pause(&mut pauses).await,
            answer => return answer,
        }
    }
    Err(OVERTAKEN)
}

/// The task for which this idempotency key of the caller was claimed, and the hash of the request's body. When this returns,
/// the task exists: if the claim's run had not begun, it was begun.
///
/// # Errors
/// The log can't be read or written.
pub(in crate::streams) async fn find_idempotent(
    registry: &Registry,
    caller: &str,
    key: &str,
) -> Result<Option<(TaskId, String)>, ExecuteError> {
    let Some((claim, _)) = Claim::last(registry.store(), &ClaimKey::idempotency(caller, key)).await? else {
        return Ok(None);
    };
    ensure_begun(registry, &claim).await?;
    Ok(Some((claim.task, claim.body_hash.unwrap_or_default())))
}

/// The answer to a request whose idempotency key was claimed before.
fn answer_repeated((task, body_hash): (TaskId, String), request: &Idempotency) -> Result<Accepted, ExecuteError> {
    if body_hash == request.body_hash {
        Ok(Accepted::Repeated(task))
    } else {
        Err(Rejection::IdempotencyKeyReused.into())
    }
}

/// Claims the unique key. If a run that has claimed it is open, nothing is claimed, and the task of that run is returned.
async fn claim_unique(registry: &Registry, claim: Option<Claim>) -> Result<Option<TaskId>, ExecuteError> {
    let Some(claim) = claim else { return Ok(None) };
    let mut pauses = PAUSES;
    for _ in 0..TRIES_MAX {
        let expected = match Claim::last(registry.store(), &claim.key).await? {
            None => AuxiliaryExpected::NoStream,
            Some((held, revision)) => {
                let is_same = held.task == claim.task && claim.expected.is_none();
                if ensure_begun(registry, &held).await? || is_same {
                    return Ok(Some(held.task));
                }
                AuxiliaryExpected::Revision(revision)
            }
        };
        if claim.write(registry.store(), expected).await? {
            return Ok(None);
        }
        pause(&mut pauses).await;
    }
    Err(OVERTAKEN)
}

/// Claims the idempotency key of the task that these events create, if it has one. If the key is claimed for another task,
/// that claim is returned.
async fn claim_idempotency(registry: &Registry, begin: &BeginRun) -> Result<Option<Claim>, ExecuteError> {
    let Some(claim) = Claim::idempotency(begin)? else { return Ok(None) };
    if claim.write(registry.store(), AuxiliaryExpected::NoStream).await? {
        return Ok(None);
    }
    let (first, _) = Claim::last(registry.store(), &claim.key).await?.ok_or(OVERTAKEN)?;
    Ok(Some(first).filter(|first| first.task != claim.task))
}

/// Begins the claim's run if it has not begun, unless the claim is void. Returns whether the run is open afterwards.
async fn ensure_begun(registry: &Registry, claim: &Claim) -> Result<bool, ExecuteError> {
    let history = TaskHistory::read(registry.store(), claim.task).await?;
    let missing_begin = if history.revision == claim.expected { claim.begin_run()? } else { None };
    let Some(begin) = missing_begin else { return Ok(history.is_open()) };
    if claim.key.kind == KeyKind::Unique && claim_idempotency(registry, &begin).await?.is_some() {
        return Ok(false);
    }
    match registry.begin_run(begin).await {
        Ok(_) => Ok(true),
        // The stream has got another event at this revision since it was read, so this run never begins.
        Err(ExecuteError::Append(AppendError::WrongExpectedRevision { .. })) => {
            Ok(TaskHistory::read(registry.store(), claim.task).await?.is_open())
        }
        Err(error) => Err(error),
    }
}

async fn pause(pauses: &mut BackOff) {
    tokio::time::sleep(with_jitter(pauses.next_pause(), 0.5, fastrand::f64())).await;
}

const OVERTAKEN: ExecuteError = ExecuteError::Busy("other servers overtook every try");

/// The fold of a task's stream.
#[derive(Default)]
struct TaskHistory {
    state: TaskStream,
    revision: Option<Revision>,
    time: Option<Timestamp>,
}

impl TaskHistory {
    async fn read(store: &EventStore, task: TaskId) -> Result<Self, ExecuteError> {
        let mut history = Self::default();
        for recorded in store.read_for_decision(&StreamName::task(task), Revision(0)).await? {
            history.apply(&recorded);
        }
        Ok(history)
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

    /// Decides the command that begins a run after this history.
    fn decide(&self, task: TaskId, command: &Command, at: Timestamp, meta: &Meta) -> Result<BeginRun, Rejection> {
        let at = self.time.map_or(at, |last| last.max(at));
        let new = |event: Event| NewEvent { id: new_id(), time: at, meta: meta.clone(), event: LogEvent::Task(event) };
        let events = self.state.decide(command, at)?.into_iter().map(new).collect();
        Ok(BeginRun { task, expected: self.revision, events })
    }
}
