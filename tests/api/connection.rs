//! Connections and bodies: what a client may send, how slowly, and how much of it at once.

mod client;
mod descriptors;
mod expect;
mod fuzz;
mod headers;
mod large;
mod pipeline;
mod refusals;
mod slow;
