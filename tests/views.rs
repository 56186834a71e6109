//! Tests of the views.

mod bounds;
mod credentials;
mod fold;
pub(crate) mod history;
mod laws;
mod lists;
mod offers;
mod oracle;
mod packed;
mod queues_and_schedules;
mod rules;
mod saved;
mod windows;
mod words;
mod world;
