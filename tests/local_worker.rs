//! Tests of the worker inside the process, of the context of a handler, and of the built-in kinds.

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
