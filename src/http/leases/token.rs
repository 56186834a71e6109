//! The text of a lease in a worker's request: `<task>.<attempt>.<secret>`. The log has only the hash of the secret. A
//! request with another secret is refused as `lease_lost`.

use crate::http::plumbing::error::Problem;
use crate::task::TaskId;

/// A parsed lease. It may have ended or may never have been granted; the task's events decide that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseToken {
    /// The id of the task.
    pub task: TaskId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The BLAKE3 hash of the secret, in hexadecimal.
    pub lease_hash: String,
}

impl LeaseToken {
    /// Parses the text of a lease. `pointer` is the JSON pointer to the text in the request.
    ///
    /// # Errors
    /// 422 if the text doesn't have the form of a lease.
    pub fn parse(text: &str, pointer: &str) -> Result<Self, Problem> {
        let mut parts = text.split('.');
        let parts = (parts.next(), parts.next(), parts.next(), parts.next());
        if let (Some(task), Some(attempt), Some(secret), None) = parts
            && let (Ok(task), Ok(attempt)) = (task.parse(), attempt.parse())
        {
            return Ok(Self { task, attempt, lease_hash: blake3::hash(secret.as_bytes()).to_hex().to_string() });
        }
        Err(Problem::invalid_field(pointer, "a lease is <task>.<attempt>.<secret>, exactly as the server sent it"))
    }
}
