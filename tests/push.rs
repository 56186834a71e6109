//! Tests of the websocket `GET /v1/live`: the frames with the counters, and the frames of subscriptions.

mod bad;
mod checker;
pub mod fold;
pub mod load;
mod sockets;
mod stalled;
