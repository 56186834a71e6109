//! Keys on a log that several servers write: at most one open run for each unique key, one task for each idempotency key.
//!
//! The views of a server lag behind the log, and a lock holds in one process. So a key is claimed in a stream of its own,
//! `key-<hash>`, before the run begins. The stream's expected revision is the lock: of two servers that claim at the same
//! revision, one succeeds. A [claim](record) holds the task, the last revision of the task's stream before the run, and the
//! events by which the run begins, with their ids.
//!
//! ```text
//!  create or retry                                        another server, same key
//!        │ 1. decide the begin (`Created`, `Retried`)            │
//!        │ 2. claim the unique key, unless its run is open       │ reads the claim, then the task's stream:
//!        │ 3. claim the idempotency key, unless it is claimed    │   it ends at the claim's revision → steps 3 and 4
//!        ▼ 4. append the begin at the claim's revision           ▼   it is longer → the run is open or over
//! ```
//!
//! **A crash** after step 2 or 3 leaves a claim whose run has not begun. The next request with the key completes it: it
//! appends the same events at the same revision. However many servers do this, the database writes the events once, because
//! it compares their ids. The client of the first request has no answer, so it makes no difference when that is.
//!
//! **Both keys.** The unique key is claimed first. Where it is refused, nothing has been written yet: the idempotency key
//! doesn't stand for a task that never exists. The claim of the idempotency key then decides, because it is never superseded:
//! if it names the same task, that task begins, by whichever server; if it names another task, this one never begins and
//! its unique claim is void. The other order would not do: a refused unique key would leave an idempotency claim whose server
//! may still be about to claim the unique key. To keep that claim would refuse other requests for a task that doesn't exist,
//! and to supersede it could lead to two tasks.
//!
//! **When a claim ends.** A unique claim ends with its run, as the task's own stream shows it; the next claim is written at
//! its revision. By a superseded claim no run begins: either the run had begun before, so that its events are not written
//! again, or the claim was void. An idempotency claim ends when its task leaves the views, and no task does.
//!
//! Reading order: [`record`] (a claim as it is written), `take` (the steps), [`open`] (the claims of an imported log).

#[cfg(feature = "eventstore")]
pub mod open;
pub mod record;
mod take;

pub(super) use take::{create, find_idempotent, retry};
