//! PUSHES: what is sent on open websockets. [`hub`] (what is pending for each socket, and when it is sent), [`frames`] (the
//! text of a frame), [`messages`] (the messages between the hub and the sockets), [`backlog`] (the frames that wait for a
//! client which reads slowly), [`open_sockets`] (how many sockets are open).

pub mod backlog;
pub mod frames;
pub mod hub;
pub mod messages;
pub mod open_sockets;
mod socket;
mod task_frames;
