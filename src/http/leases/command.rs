//! A worker's command on its attempt: the message that executes the command, and the refusal if it fails.

use super::token::LeaseToken;
use crate::http::AppState;
use crate::http::identity::Credential;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::store::{Meta, Via, now};
use crate::streams::UNNAMED_WORKER;
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::{Command, Rejection, TaskId};

/// The authenticated subject of a worker's request. `None` if the request has no credential: then only the name is known that
/// the worker gives itself.
pub fn authenticated_subject(caller: &Caller) -> Option<String> {
    (caller.identity.credential != Credential::Local).then(|| caller.subject().to_owned())
}

/// Makes the message that executes a worker's command. The event's actor is the authenticated subject. The reports of a worker
/// without a credential don't name it, so the task's actor records the worker that got the attempt.
pub fn worker_command(caller: &Caller, lease: &LeaseToken, command: Command) -> Execute {
    let actor = authenticated_subject(caller).unwrap_or_else(|| UNNAMED_WORKER.to_owned());
    let meta = Meta { actor, via: Via::Worker, ..caller.meta() };
    Execute { task: lease.task, command, at: now(), meta }
}

/// Whether the caller's credential allows reports about this lease. If not, the lease counts as lost: the credential could not
/// have taken it.
pub fn may_report(state: &AppState, caller: &Caller, task: TaskId) -> bool {
    caller.identity.kinds.is_none()
        || state.reader.views().get(task).is_none_or(|row| caller.identity.may_lease(row.kind()))
}

/// Makes the problem of a failed command. If the task doesn't exist, the problem is `lease_lost`.
pub fn lease_problem(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Rejected(Rejection::NotFound) => Rejection::LeaseLost.into(),
        error => Problem::of_report(error),
    }
}
