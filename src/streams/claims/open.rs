//! Claims the keys that the tasks of an imported log hold. A log of one server has no claims.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::record::{Claim, ClaimKey, VERSION};
use crate::store::auxiliary::AuxiliaryExpected;
use crate::store::{AppendError, EventStore};
use crate::streams::messages::ExecuteError;
use crate::task::TaskId;
use crate::views::Views;

/// The number of events in one read.
const PAGE_EVENTS: usize = 1000;
/// The number of claims that are written concurrently.
const WRITES_AT_ONCE: usize = 64;

/// Folds the log, claims each key that a task holds, and returns the number of claims. An import calls it when all events are
/// in the store, before a server uses the store. It may be called again, after a success and after a failure.
///
/// # Errors
/// The log can't be read or written, or one of the keys is claimed for another task already.
pub async fn claim_open_keys(store: &EventStore) -> Result<usize, ExecuteError> {
    let mut views = Views::default();
    while views.position() < store.head().position {
        for recorded in store.read_all(views.position(), PAGE_EVENTS).await? {
            views.apply(&recorded);
        }
    }
    let claims: Vec<Claim> = open_claims(&views).collect();
    stream::iter(&claims).map(|claim| write(store, claim)).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
    Ok(claims.len())
}

/// The claims of all keys that are held in these views: the unique keys of the tasks that are not final, and all idempotency
/// keys. The views must hold the whole log. `write` writes a claim.
pub fn open_claims(views: &Views) -> impl Iterator<Item = Claim> {
    let unique =
        views.unique_keys().map(|(owner, key, task)| claim_of_begun_run(ClaimKey::unique(owner, key), task, None));
    let idempotency = views.idempotency_keys().map(|(caller, key, task, body_hash)| {
        claim_of_begun_run(ClaimKey::idempotency(caller, key), task, Some(body_hash.to_owned()))
    });
    unique.chain(idempotency)
}

/// The claim of a run that has begun already. It holds no events.
fn claim_of_begun_run(key: ClaimKey, task: TaskId, body_hash: Option<String>) -> Claim {
    Claim { version: VERSION, key, body_hash, task, expected: None, begin: Vec::new() }
}

/// Writes one of the [`open_claims`]. If the key is claimed for the same task already, nothing is written; so an import can be
/// repeated.
///
/// # Errors
/// The log can't be read or written. [`AppendError::WrongExpectedRevision`] if the key is claimed for another task.
pub async fn write(store: &EventStore, claim: &Claim) -> Result<(), ExecuteError> {
    if claim.write(store, AuxiliaryExpected::NoStream).await? {
        return Ok(());
    }
    match Claim::last(store, &claim.key).await? {
        Some((last, _)) if last.task == claim.task => Ok(()),
        other => Err(AppendError::WrongExpectedRevision { actual: other.map(|(_, revision)| revision) }.into()),
    }
}
