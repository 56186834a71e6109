//! COMMANDS THAT FOLLOW FROM EVENTS: the [`cascade`] cancels the children of a cancelled parent, and [`parents_to_cancel`] is
//! its list of parents. The [`scheduler`] creates the tasks of schedules with `creator`, and [`agenda`] is its list of
//! schedules.
//!
//! Neither actor has state that can't be rebuilt: a new actor finds in the views what remains to be done.

pub mod agenda;
pub mod cascade;
mod creator;
pub mod parents_to_cancel;
pub mod scheduler;
