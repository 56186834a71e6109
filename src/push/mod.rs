//! PUSHES: [`hub`] (what is pending for each socket, and when it is sent), [`frames`] (the text of a frame), [`messages`]
//! (between the hub and the sockets), [`audience`] (whether any socket is open).

pub mod audience;
pub mod frames;
pub mod hub;
pub mod messages;
