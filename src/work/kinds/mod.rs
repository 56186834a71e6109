//! The kinds that this server executes itself.

pub mod bulk_cancel;
pub mod distribute;
