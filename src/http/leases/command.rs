//! A worker's command on the attempt that it holds.

use super::token::LeaseToken;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::store::{Meta, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::{Command, Rejection};

/// The message for `command`. The request names no worker: the task's actor records the one that the attempt was given to.
pub fn execute_message(caller: &Caller, lease: &LeaseToken, command: Command) -> Execute {
    let meta = Meta { actor: "worker".to_owned(), via: Via::Worker, ..caller.meta() };
    Execute { task: lease.task, command, at: now(), meta }
}

/// A lease of a task that doesn't exist is a lost lease.
pub fn lease_problem(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Rejected(Rejection::NotFound) => Rejection::LeaseLost.into(),
        error => Problem::of_report(error),
    }
}
