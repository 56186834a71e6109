//! Workers outside: real servers, real worker processes, real commands.

mod command;
mod crew;
mod group;
mod library;
mod outage;
