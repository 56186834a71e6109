//! A server that is killed or stopped, or whose disk is full, loses nothing that it acknowledged.

mod disk;
mod kill;
pub mod load;
mod stop;
