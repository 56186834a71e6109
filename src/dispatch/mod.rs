//! WHAT RUNS NEXT: which attempt goes to which worker, and what workers are told.
//!
//! Reading order: [`messages`] (what workers and the dispatcher tell each other), [`capacity`] (what may run, and who could
//! take it), [`dispatcher`] (starts attempts, hears of their ends), [`lease_table`] (the leases of workers outside the
//! process), [`policies`] (what the operator has set for each kind).

pub mod capacity;
mod directive;
pub mod dispatcher;
pub mod in_flight;
pub mod lease_table;
pub mod messages;
pub mod policies;
pub mod servers;
pub mod shares;
