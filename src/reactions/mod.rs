//! WHAT FOLLOWS FROM EVENTS: [`cascade`] (a parent's cancel asks its children), [`scheduler`] (creates the tasks of
//! schedules).

pub mod cascade;
pub mod scheduler;
