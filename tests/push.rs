//! The bell, frame by frame.

mod bad;
mod checker;
pub mod fold;
pub mod load;
mod sockets;
mod stalled;
