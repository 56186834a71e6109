//! What follows from events, without an actor: which schedules are due, and which children need a request.

mod agenda;
mod backlog;
