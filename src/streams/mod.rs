//! THE WRITE SIDE: every stream has one actor that decides the commands on it.
//!
//! Reading order: [`messages`] (what is asked and answered), [`registry`] and [`shard`] (find the actor), [`actor`] (owns a
//! stream), [`commit`] (decide → append → evolve), [`create`] and [`keyed_lock`] (one request at a time for each key).

pub mod actor;
pub mod commit;
pub mod create;
pub mod keyed_lock;
pub mod messages;
pub mod registry;
pub mod shard;
