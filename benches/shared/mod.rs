//! The functions that several benches use.

#![allow(dead_code)] // each bench uses only some of them

use std::sync::Arc;

use serde_json::json;
use taskbell::store::{Meta, Via, new_id};
use taskbell::task::event::{Completed, Created, Event, Outcome, Started};

/// Makes a temporary directory on the disk that is measured: below `TASKBELL_BENCH_DIR`, or below `target`.
pub fn temporary_directory() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::var("TASKBELL_BENCH_DIR").unwrap_or_else(|_| "target".to_owned())).unwrap()
}

/// The metadata of the appended events.
pub fn meta() -> Meta {
    Meta { actor: "ann".into(), via: Via::Http, correlation_id: new_id(), causation_id: None, request_id: None }
}

/// The three events of a task of this owner: created, started, completed.
pub fn task_events(owner: &str) -> [Event; 3] {
    let created = Created {
        kind: "content.distribute".into(),
        title: "Distribute the autumn catalogue".into(),
        owner: owner.into(),
        input: json!({"from": "catalogue/autumn", "to": ["berlin", "lisbon"]}).into(),
        queue: "default".into(),
        priority: 0,
        run_at: None,
        max_attempts: 3,
        timeout_s: None,
        labels: [].into(),
        parent: None,
        unique_key: None,
        concurrency_key: None,
        schedule: None,
        idempotency: None,
    };
    let started = Started { attempt: 1, worker: "local/a/1".into(), lease_hash: "0".repeat(64) };
    let completed = Completed {
        outcome: Outcome::Succeeded,
        attempt: Some(1),
        message: Some("2 of 2 places have it".into()),
        result: None,
        error: None,
        forced: false,
        progress: None,
    };
    [Event::Created(Arc::new(created)), Event::Started(started), Event::Completed(completed)]
}
