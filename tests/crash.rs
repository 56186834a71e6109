//! Kill the server; nothing acknowledged is lost.

mod disk;
mod kill;
mod load;
mod stop;
