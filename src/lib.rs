//! Taskbell: background tasks behind a bell that people can trust.
//!
//! One sentence: **commands become events in one log; everything that anyone sees is a fold of that log.**
//!
//! The rooms, from the ground up; imports run downhill only:
//!
//! - [`task`]: the rules, pure
//! - [`store`]: the log
//! - [`views`]: the read side, pure folds of the log
//! - [`actors`]: what moves
//! - [`work`]: the hands: handlers, the worker inside the process, and the same worker elsewhere, over the wire
//! - [`http`]: the edge
//! - [`app`], [`config`], [`cli`]: the composition root, the settings, the commands
//!
//! The walk of a cancel: `http::routes` → `http::tasks::cancel` → `actors::registry` → `actors::task`
//! (`decide` → `append` → `evolve` → `Receipt`) → the answer. From here on it runs from the log:
//! `actors::projector` → `views.apply` → `actors::hub` → one frame on each socket that asked;
//! `actors::dispatcher` hears the same event and hands the worker its directive, by a message inside the process, by the
//! answer to a waiting heartbeat (`actors::leases`) outside; the worker's acknowledgement and its end come back as commands
//! by the same door.

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod http;
pub mod store;
pub mod task;
pub mod views;
pub mod work;

pub use async_trait::async_trait;
