//! Claims of keys, on a log that several servers write to. They ensure that a unique key has at most one open run, and an
//! idempotency key one task. A run is *open* from its first event until the task is final.
//!
//! The views of a server lag behind the log, and a lock is valid in one process only. So before a run begins, its key is
//! claimed in a stream of the key, `key-<hash>`. The database checks the expected revision of this stream: if two servers claim
//! at the same revision, one succeeds. A [claim](record) holds the task, the last revision of the task's stream before the run,
//! and the events that begin the run, with their ids.
//!
//! ```text
//!  create or retry                                        another server, same key
//!        │ 1. decide the first events (`Created`, `Retried`, …)  │
//!        │ 2. claim the unique key, unless its run is open       │ reads the claim, then the task's stream:
//!        │ 3. claim the idempotency key, unless it is claimed    │   it ends at the claim's revision → steps 3 and 4
//!        ▼ 4. append the events at the claim's revision          ▼   it is longer → the run is open or over
//! ```
//!
//! **A crash** after step 2 or 3 leaves a claim whose run has not begun. The next request with the key begins the run: it
//! appends the same events at the same revision. Several servers may do this. The database compares the ids of the events and
//! writes them once. The client of the first request got no answer, so the run may begin at any later time.
//!
//! **Both keys.** The unique key is claimed first. If that is refused, nothing has been written, and the idempotency key is not
//! claimed for a task that will never exist. The claim of the idempotency key is the final decision, because it is never
//! superseded. If it names the same task, that task begins, on whichever server. If it names another task, this task never
//! begins, and its claim of the unique key is void.
//!
//! The opposite order would be wrong. If the idempotency key were claimed first and the unique key then refused, the claim of
//! the idempotency key would remain. Another server could not tell it from a claim whose server is still about to claim the
//! unique key. If such a claim stayed valid, later requests would be refused for a task that doesn't exist. If it were
//! superseded, there could be two tasks.
//!
//! **When a claim ends.** The claim of a unique key ends with its run, which the task's stream shows. The next claim is written
//! at the revision of this one, and supersedes it. A superseded claim begins no run: either its run had begun before, and the
//! events are not written a second time, or the claim was void. The claim of an idempotency key ends when its task is removed
//! from the views; no task is ever removed.
//!
//! Reading order: [`record`] (the claim and its format), `take` (the steps above), [`open`] (the claims of an imported log).

#[cfg(feature = "eventstore")]
pub mod open;
pub mod record;
mod take;

pub(super) use take::{create, find_idempotent, retry};
