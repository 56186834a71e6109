//! A server loses nothing that it has acknowledged: not when it is killed or stopped, and not when its disk is full.

mod disk;
mod faults;
mod kill;
pub mod load;
mod recorder;
mod start;
mod stop;
mod truncated;
mod unwritable;
