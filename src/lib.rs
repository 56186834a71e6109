//! Taskbell: background tasks behind a bell that people can trust.
//!
//! One sentence: **commands become events in one log; everything that anyone sees is a fold of that log.**
//!
//! The rooms, from the ground up; imports run downhill only:
//!
//! - [`task`]: the rules, pure
//! - [`store`]: the log
//! - [`views`]: the read side, pure folds of the log
//! - [`streams`]: the write side: an actor for each stream
//! - [`projection`]: the only writer of the views, and the handle on them
//! - [`dispatch`]: what runs next, and what workers are told
//! - [`reactions`]: what follows from events
//! - [`push`]: frames to open sockets
//! - [`work`]: the hands: handlers, the worker inside the process, and the same worker elsewhere, over the wire
//! - [`http`]: the edge
//! - [`app`], [`config`], [`cli`]: the composition root, the settings, the commands
//!
//! The walk of a cancel: `http::routes` → `http::tasks::cancel` → `streams::registry` → `streams::actor`
//! (`decide` → `append` → `evolve` → `Receipt`) → the answer. From here on it runs from the log:
//! `projection::projector` → `views.apply` → `push::hub` → one frame on each socket that asked;
//! `dispatch::dispatcher` hears the same event and hands the worker its directive, by a message inside the process, by the
//! answer to a waiting heartbeat (`dispatch::lease_table`) outside; the worker's acknowledgement and its end come back as commands
//! by the same door.

pub mod app;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod http;
pub mod projection;
pub mod push;
pub mod reactions;
pub mod store;
pub mod streams;
pub mod task;
pub mod views;
pub mod work;

pub use async_trait::async_trait;
