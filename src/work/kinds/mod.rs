//! The built-in kinds: the server's own worker executes them.

pub mod bulk_cancel;
pub mod distribute;
