//! Workers outside the process, as processes that can be killed.

mod checker;
mod soak;
