//! A worker's command on the attempt that it holds.

use super::token::LeaseToken;
use crate::http::AppState;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::store::{Meta, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::{Command, Rejection};

/// The message for `command`. Its actor is the worker that the attempt was given to: the request names none.
pub fn execute_message(state: &AppState, caller: &Caller, lease: &LeaseToken, command: Command) -> Execute {
    let views = state.read.views();
    let worker = views.get(lease.task).filter(|row| row.attempt() == lease.attempt).and_then(|row| row.worker());
    let meta = Meta { actor: worker.unwrap_or("worker").to_owned(), via: Via::Worker, ..caller.meta() };
    Execute { task: lease.task, command, at: now(), meta }
}

/// A lease of a task that doesn't exist is a lost lease.
pub fn lease_problem(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Rejected(Rejection::NotFound) => Rejection::LeaseLost.into(),
        error => Problem::of_report(error),
    }
}
