//! Remote workers: real servers, real worker processes, real commands; and a fake server for rare answers.

mod command;
mod fake;
mod group;
mod lease_time;
mod library;
mod outage;
mod process;
mod refused;
mod result;
