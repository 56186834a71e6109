//! Work: the context that handlers have, the worker inside the process, the built-in kinds.

mod acknowledgement;
mod attempts;
mod bench;
mod cancel;
mod containment;
mod input;
mod refusals;
mod reports;
mod throttle;
mod trees;
