//! Tests of remote workers: real servers, worker processes and commands. A fake server gives responses that are rare in
//! reality.

mod command;
mod fake;
mod group;
mod lease_time;
mod library;
mod outage;
mod process;
mod refused;
mod result;
mod token_file;
