//! PUSHES: [`hub`] (what is pending for each socket, and when it is sent), [`frames`] (the text of a frame).

pub mod frames;
pub mod hub;
