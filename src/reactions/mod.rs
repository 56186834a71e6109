//! COMMANDS THAT FOLLOW FROM EVENTS: the [`cascade`] cancels the children of a cancelled parent, and [`backlog`] is its list of
//! parents. The [`scheduler`] creates the tasks of schedules, and [`agenda`] is its list of schedules.
//!
//! Neither actor has state that can't be rebuilt: a new actor finds in the views what remains to be done.

pub mod agenda;
pub mod backlog;
pub mod cascade;
pub mod scheduler;
