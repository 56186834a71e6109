//! THE WRITE SIDE: every stream has one actor, and every command on it is decided by that actor.
//!
//! ```text
//!  http, work, dispatch, reactions
//!        │ Execute (alone or in a batch, a create included)
//!        ▼
//!  registry ──▶ shard ──▶ stream actor: decide(state, command) ──▶ events, evolved state
//!                             ▲                                      │
//!                             │ durable: replace the state           ▼
//!                             └────────────────── collector ──append──▶ the log
//! ```
//!
//! Reading order: [`messages`] (the commands and their answers), [`registry`] (finds the shard), `shard` (finds or starts the
//! actor), `actor` (handles one command after the other), `stream_state` (decide → evolve → append → replace the state),
//! `collector` (joins the appends of many actors into one write; only this file appends to the log), `directory` (the actors
//! that run), `reply` (delivers the answers), [`decider`] (the four kinds of streams). [`create`] and [`keyed_lock`] let one
//! request at a time use a key, in this process. [`claims`] does the same on a log that several servers write to.

mod actor;
pub mod claims;
mod collector;
pub mod create;
pub mod decider;
mod directory;
pub mod keyed_lock;
pub mod messages;
pub mod registry;
mod reply;
mod shard;
mod stream_state;

pub use decider::ExecuteOnStream;
pub use stream_state::UNNAMED_WORKER;
