//! WHAT RUNS NEXT: which task runs next, which worker executes it, and which directives its worker gets.
//!
//! Reading order: [`messages`] (between workers and the dispatcher), [`queue_and_offers`] (the run queue, and the workers'
//! offers), [`in_flight`] (the tasks that are being started or executed here), [`dispatcher`] (starts attempts and follows
//! their events), [`task_timers`] (when a task needs a command), [`lease_table`] (the leases of workers outside the process), [`policies`] (the settings of each kind). On a
//! cluster: [`servers`] (the servers and attempts that are alive, as the servers' records show), [`shares`] (which server does
//! which work first).

mod directive;
pub mod dispatcher;
pub mod in_flight;
pub mod lease_table;
pub mod messages;
pub mod policies;
pub mod queue_and_offers;
pub mod servers;
pub mod shares;
pub mod task_timers;
