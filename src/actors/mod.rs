//! WHAT MOVES.
pub mod messages;
