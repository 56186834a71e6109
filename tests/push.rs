//! Tests of the websocket `GET /v1/live`: the frames with the counters, and the frames of subscriptions.

mod bad;
mod checker;
mod ends;
mod flood;
pub mod fold;
mod frames;
mod fuzz;
mod limits;
pub mod load;
mod many;
mod sockets;
mod stalled;
mod turns;
mod wire;
