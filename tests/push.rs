//! `GET /v1/live`: the frames of the bell and of subscriptions.

mod bad;
mod checker;
pub mod fold;
pub mod load;
mod sockets;
mod stalled;
