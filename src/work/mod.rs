//! THE HANDS: handlers, the built-in kinds, and the worker inside the process.

pub mod context;
pub mod handler;

pub use context::Context;
pub use handler::{Defaults, Done, Failure, Handler};
