//! WHAT FOLLOWS FROM EVENTS: [`cascade`] (a cancel of a parent goes on to its children) with its [`backlog`], [`scheduler`]
//! (creates the tasks of schedules) with its [`agenda`].
//!
//! Both actors hold no truth: each can be dropped at any time, and a new one finds in the views what is left to do.

pub mod agenda;
pub mod backlog;
pub mod cascade;
pub mod scheduler;
