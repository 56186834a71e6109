//! Workers outside the process, as processes that can be killed.

pub mod checker;
mod soak;
