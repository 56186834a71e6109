//! Remote worker processes that are killed at random.

pub mod checker;
mod soak;
