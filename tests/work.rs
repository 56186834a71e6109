//! The hands: the context that handlers have, the worker inside the process, the built-in kinds.

mod acknowledgement;
mod attempts;
mod bench;
mod cancel;
mod input;
mod refusals;
mod reports;
mod trees;
