//! A lease, as its worker shows it: `<task>.<attempt>.<secret>`. The log holds only the hash of the secret; a lease with
//! another secret is lost.

use crate::http::plumbing::error::Problem;
use crate::task::TaskId;

/// A lease that was shown; whether it is held, the task's events say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseToken {
    /// The task.
    pub task: TaskId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// BLAKE3 of the secret, in hexadecimal.
    pub hash: String,
}

impl LeaseToken {
    /// Parses a lease that stands at `pointer` in its request.
    ///
    /// # Errors
    /// 422 if it has not the form of a lease.
    pub fn parse(text: &str, pointer: &str) -> Result<Self, Problem> {
        let mut parts = text.split('.');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        if let (Some(task), Some(attempt), Some(secret), None) = parts
            && let (Ok(task), Ok(attempt)) = (task.parse(), attempt.parse())
        {
            return Ok(Self { task, attempt, hash: blake3::hash(secret.as_bytes()).to_hex().to_string() });
        }
        Err(Problem::invalid_field(pointer, "a lease is <task>.<attempt>.<secret>, as it was handed out"))
    }
}
