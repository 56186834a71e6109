//! The claims that an imported log needs: its tasks hold keys, and a log of one server has no claims.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::record::{Claim, Key, VERSION};
use crate::store::auxiliary::AuxiliaryExpected;
use crate::store::{AppendError, EventStore};
use crate::streams::messages::ExecuteError;
use crate::task::TaskId;
use crate::views::Views;

/// Events that are read at once.
const PAGE: usize = 1000;
/// Claims that are written at the same time.
const AT_ONCE: usize = 64;

/// Folds the log and claims each key that a task holds: the number of claims. An import calls it once all events are in
/// the store, and before a server serves it. It may be called again, whether or not it succeeded before.
///
/// # Errors
/// See [`write`].
pub async fn claim_open_keys(store: &EventStore) -> Result<usize, ExecuteError> {
    let mut views = Views::default();
    while views.position() < store.head().position {
        for recorded in store.read_all(views.position(), PAGE).await? {
            views.apply(&recorded);
        }
    }
    let claims: Vec<Claim> = open_claims(&views).collect();
    stream::iter(&claims).map(|claim| write(store, claim)).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    Ok(claims.len())
}

/// The claim of each key that these views show as held: the unique keys of the tasks that are not final, and all
/// idempotency keys. The views must hold the whole log. [`write`] writes a claim.
pub fn open_claims(views: &Views) -> impl Iterator<Item = Claim> {
    let unique = views.unique_keys().map(|(owner, key, task)| begun(Key::unique(owner, key), task, None));
    let idempotency = views
        .idempotency_keys()
        .map(|(caller, key, task, body_hash)| begun(Key::idempotency(caller, key), task, Some(body_hash.to_owned())));
    unique.chain(idempotency)
}

/// A claim whose run has begun: it holds no events to begin it with.
fn begun(key: Key, task: TaskId, body_hash: Option<String>) -> Claim {
    Claim { version: VERSION, key, body_hash, task, expected: None, begin: Vec::new() }
}

/// Writes one of the [`open_claims`]. A claim that was written before stays, so that an import can be resumed.
///
/// # Errors
/// Where the log can't be read or written, and where the key is claimed for another task:
/// [`AppendError::WrongExpectedRevision`].
pub async fn write(store: &EventStore, claim: &Claim) -> Result<(), ExecuteError> {
    if claim.write(store, AuxiliaryExpected::NoStream).await? {
        return Ok(());
    }
    match Claim::last(store, &claim.key).await? {
        Some((last, _)) if last.task == claim.task => Ok(()),
        other => Err(AppendError::WrongExpectedRevision { actual: other.map(|(_, revision)| revision) }.into()),
    }
}
