//! A worker's command on its attempt: the message that executes the command, and the refusal if it fails.

use super::token::LeaseToken;
use crate::http::plumbing::caller::Caller;
use crate::http::plumbing::error::Problem;
use crate::store::{Meta, Via, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::task::{Command, Rejection};

/// Makes the message that executes a worker's command. The request doesn't name the worker: the task's actor records the worker that
/// got the attempt.
pub fn worker_command(caller: &Caller, lease: &LeaseToken, command: Command) -> Execute {
    let meta = Meta { actor: "worker".to_owned(), via: Via::Worker, ..caller.meta() };
    Execute { task: lease.task, command, at: now(), meta }
}

/// Makes the problem of a failed command. If the task doesn't exist, the problem is `lease_lost`.
pub fn lease_problem(error: ExecuteError) -> Problem {
    match error {
        ExecuteError::Rejected(Rejection::NotFound) => Rejection::LeaseLost.into(),
        error => Problem::of_report(error),
    }
}
