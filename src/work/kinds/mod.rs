//! The handlers of the built-in kinds. The worker inside the server's process executes their tasks.

pub mod bulk_cancel;
pub mod distribute;
