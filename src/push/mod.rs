//! PUSHES: [`hub`] (what each socket is owed, and when it is sent), [`frames`] (the text of a frame).

pub mod frames;
pub mod hub;
