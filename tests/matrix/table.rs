//! The expectations for each route. They are written by hand, from what callers are promised, and not from the code.
//!
//! The columns are the roles, in the order user, operator, auditor, worker, admin. Callers without a valid credential get 401
//! on every route that isn't public.
//!
//! What decides each line:
//!
//! - What the role may never do is 403, and nothing is looked up before. So a queue, a schedule, a lease and the log are
//!   refused alike whether the thing exists or not.
//! - Where it depends on whose the thing is, what the caller may not see is 404, exactly as if it didn't exist; only then the
//!   role is asked. So an auditor, who sees everything, is refused with 403 where a user gets 404.

mod identity;
mod operations;
mod tasks;

use super::row::Row;

/// The rows of all routes.
pub fn rows() -> Vec<Row> {
    [tasks::rows(), operations::rows(), identity::rows()].into_iter().flatten().collect()
}
