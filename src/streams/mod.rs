//! THE WRITE SIDE: every stream has one actor, and every command on it is decided by that actor.
//!
//! ```text
//!  http, work, dispatch, reactions
//!        │ Execute (alone or in a batch, a create included)
//!        ▼
//!  registry ──▶ shard ──▶ stream actor: decide(state, command) ──▶ events
//!                             ▲                                      │
//!                             │ durable, evolve                      ▼
//!                             └────────────────── collector ──append──▶ the log
//! ```
//!
//! Reading order: [`messages`] (what is asked and answered), [`registry`] (finds the shard), `shard` (finds or starts the
//! actor), `actor` (one command after the other), `stream_state` (decide → append → evolve), `collector` (the appends of many
//! actors become one write: the only caller of the log's `append`), `directory` (which actors live), `reply` (where answers
//! go), [`decider`] (the four kinds of streams). Beside them: [`create`] and [`keyed_lock`] (one request at a time for each
//! key, in this process), [`claims`] (the same on a log that several servers write).

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

pub use decider::ExecuteOn;
