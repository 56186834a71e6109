//! WHAT RUNS NEXT: which attempt goes to which worker, and which directives workers get.
//!
//! Reading order: [`messages`] (between workers and the dispatcher), [`capacity`] (which tasks may run, and which workers
//! execute them), [`dispatcher`] (starts attempts, follows their events), [`lease_table`] (the leases of workers outside the
//! process), [`policies`] (the settings of each kind). On a cluster: [`servers`] (which attempts and servers live, by the
//! servers' records), [`shares`] (which server does which work first).

pub mod capacity;
mod directive;
pub mod dispatcher;
pub mod in_flight;
pub mod lease_table;
pub mod messages;
pub mod policies;
pub mod servers;
pub mod shares;
