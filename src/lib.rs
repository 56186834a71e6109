//! Taskbell: background tasks that people can see and stop.
//!
//! A program submits a task and answers its own caller at once. The task runs in the background, either in the same process
//! or in a worker in another process. Until the task has ended, people see its progress and can cancel it. Each change of a
//! task is an event in one append-only log. Everything that people and programs see is computed from that log.
//!
//! # In your own actix-web application
//!
//! Implement [`Handler`] for each kind of work, start a `Taskbell` with these handlers, mount its `routes` and `submit`
//! tasks. `examples/embed.rs` is a complete application.
//!
#![cfg_attr(feature = "server", doc = "```no_run")]
#![cfg_attr(not(feature = "server"), doc = "```ignore")]
//! use actix_web::{App, HttpServer};
//! use taskbell::{Context, Done, Failure, Handler, Options, Taskbell};
//!
//! struct Greet;
//!
//! #[taskbell::async_trait]
//! impl Handler for Greet {
//!     fn kind(&self) -> &str {
//!         "demo.greet"
//!     }
//!
//!     async fn run(&self, ctx: Context) -> Result<Done, Failure> {
//!         ctx.progress(0.5, "halfway");
//!         ctx.stop_if_cancelled()?;
//!         Ok(Done::new("greeted"))
//!     }
//! }
//!
//! #[actix_web::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let taskbell = Taskbell::start(Options::default().handler(Greet)?).await?;
//!     taskbell.submit("demo.greet", serde_json::json!({"name": "Ada"})).await?;
//!     let routes = taskbell.routes();
//!     HttpServer::new(move || App::new().configure(routes.clone())).bind("127.0.0.1:8080")?.run().await?;
//!     taskbell.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! # In a worker in another process
//!
//! The same handlers run in another process with a `RemoteWorker`, which takes tasks from a server over HTTP.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `server` | yes | `Taskbell`, its log, its HTTP API and interface, `server::run` |
//! | `cli` | yes | the program `taskbell`; the library itself does not change |
//! | `eventstore` | yes | several servers that share one log in an EventStoreDB or KurrentDB: `StoreUrl`, `--store esdb://…` |
//! | `worker` | with `cli` | `RemoteWorker`, `CommandHandler` |
//! | `testing` | no | the internal modules become public, for the tests of this package; they may change in any release |
//!
//! An application that embeds a server uses `default-features = false, features = ["server"]`. A worker uses
//! `default-features = false, features = ["worker"]`; then neither actix nor SQLite is compiled. Without both features the
//! library contains only the events and [`Handler`]. A library of handlers needs no more.

// The rooms, the lowest first. A room imports only lower rooms; `tests/rooms.rs` checks that.
//
//   task        the rules, as pure functions
//   clock       the wall clock and new ids
//   repeats     which occurrences of a repeated fault are logged
//   secret      texts that are never printed
//   tls         the certificate of a server, and which servers a client trusts
//   store       the log
//   wire        the log over the gRPC protocol of EventStoreDB
//   views       the read side: pure folds of the log
//   streams     the write side: one actor for each stream
//   projection  the only writer of the views
//   dispatch    which task runs next, leases, timers
//   reactions   commands that follow from events: cascades, schedules
//   push        frames for open websockets
//   work        handlers, the worker inside the process and the remote worker, the built-in kinds
//   http        the routes
//   config      the settings of a server process
//   app         creates all parts and connects them
//
// How a request to cancel passes through the rooms. README.md and docs/architecture.md have the same nine steps:
//
//   1. Request: http/mod.rs routes the request through its middleware to `cancel` in http/tasks.rs, which builds the command.
//   2. Write path: streams/registry.rs finds the shard of the task. streams/shard.rs finds the actor of the task, or starts
//      one. streams/actor.rs handles one command at a time. In streams/stream_state.rs, task/decide.rs decides the events,
//      task/state.rs computes the state after them, and streams/collector.rs appends them to the log. Then the new state
//      replaces the old one.
//   3. Views: projection/projector.rs applies the events to the views, and sends them to push, dispatch and reactions.
//   4. Response: the client gets it when the views show the events.
//   5. Push: push/hub.rs sends frames to each websocket that shows the task or its owner's counts.
//   6. Directive: dispatch/dispatcher/mod.rs sends the worker a directive: a message if the worker is in this process,
//      otherwise the response to the heartbeat that waits (dispatch/lease_table.rs).
//   7. Acknowledgement: the worker's acknowledgement is a command on the task too. It begins at step 2.
//   8. End: work/worker/run_attempt.rs reports the end of the attempt. This command begins at step 2 as well.
//   9. Escalation and children: if the worker doesn't stop, dispatch/dispatcher/timers.rs sends the command for the next rung
//      of the cancel ladder. reactions/cascade.rs requests the cancel of the children. Both begin at step 2.
//
// The rooms are public only for the tests and benches of this package. Each room is declared twice, because rustfmt finds a
// module only if its declaration is not inside a macro.
#[cfg(feature = "testing")]
pub mod app;
#[cfg(feature = "testing")]
pub mod clock;
#[cfg(feature = "testing")]
pub mod config;
#[cfg(feature = "testing")]
pub mod dispatch;
#[cfg(feature = "testing")]
pub mod http;
#[cfg(feature = "testing")]
pub mod projection;
#[cfg(feature = "testing")]
pub mod push;
#[cfg(feature = "testing")]
pub mod reactions;
#[cfg(feature = "testing")]
pub mod repeats;
#[cfg(feature = "testing")]
pub mod secret;
#[cfg(feature = "testing")]
pub mod store;
#[cfg(feature = "testing")]
pub mod streams;
#[cfg(feature = "testing")]
pub mod task;
#[cfg(feature = "testing")]
pub mod tls;
#[cfg(feature = "testing")]
pub mod views;
#[cfg(all(feature = "eventstore", feature = "testing"))]
pub mod wire;
#[cfg(feature = "testing")]
pub mod work;

#[cfg(all(feature = "server", not(feature = "testing")))]
mod app;
#[cfg(not(feature = "testing"))]
mod clock;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod config;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod dispatch;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod http;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod projection;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod push;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod reactions;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod repeats;
#[cfg(all(any(feature = "server", feature = "worker"), not(feature = "testing")))]
mod secret;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod store;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod streams;
#[cfg(not(feature = "testing"))]
// Only the server decides commands, so without it a part of this room is dead code.
#[cfg_attr(not(feature = "server"), allow(dead_code, unused_imports))]
mod task;
#[cfg(all(any(feature = "server", feature = "worker"), not(feature = "testing")))]
mod tls;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod views;
// The server offers the log read-only. Only the tests use the part of the protocol that writes.
#[cfg(all(feature = "eventstore", not(feature = "testing")))]
#[allow(dead_code, unused_imports)]
mod wire;
#[cfg(not(feature = "testing"))]
// Without the server and the worker, nothing runs the handlers.
#[cfg_attr(not(any(feature = "server", feature = "worker")), allow(dead_code, unused_imports))]
mod work;

pub use async_trait::async_trait;

pub use task::{Invalid, JsonText, Position, Revision, Status, TaskId, Timestamp};
pub use work::{Context, Defaults, Done, Failure, Handler, Handlers, NotRegistered, Step, StepGuard};

#[cfg(feature = "worker")]
pub use work::{CommandHandler, RemoteError, RemoteWorker, WorkerEvent};

#[cfg(feature = "server")]
pub use app::{Options, StartError, Taskbell};
#[cfg(feature = "server")]
pub use dispatch::policies::{KindPolicies, KindPolicy};
#[cfg(feature = "server")]
pub use http::{
    AllowedOrigin, AuthSettings, ClientLimits, HostName, InvalidAddress, InvalidKeyUrl, JwtAlgorithm, JwtSettings,
    KeySource, KeyUrl, Network, Problem, ProxySecret, ProxySettings, PublicAddress, SharedLimit, UnknownAlgorithm,
    ValueLimits,
};
#[cfg(any(feature = "server", feature = "worker"))]
pub use secret::Secret;
#[cfg(feature = "server")]
pub use store::{
    Fact, Hash, Incomplete, LogEvent, LogSubscription, Meta, OpenError, ReadError, Recorded, StoredJson, StreamName,
    StreamSubject, Via,
};
#[cfg(feature = "eventstore")]
pub use store::{InvalidUrl, StoreUrl};
#[cfg(feature = "server")]
pub use task::access::Role;
#[cfg(feature = "server")]
pub use views::Limits;

/// The events of tasks, bells, queues and schedules. The log contains no other events.
///
/// The schemas in `events/` describe their JSON.
pub mod event {
    #[cfg(feature = "server")]
    pub use crate::task::bell::{BellEvent, Seen};
    pub use crate::task::event::{
        AttemptFailed, CancelAcknowledged, CancelEscalated, CancelLadder, CancelRequested, Completed, Created, Event,
        Idempotency, Outcome, OutputKept, Progress, Queued, QueuedReason, Released, ReleasedReason, Retried, Rung,
        Started, TaskError,
    };
    #[cfg(feature = "server")]
    pub use crate::task::queue::{Paused, QueueEvent, Resumed};
    #[cfg(feature = "server")]
    pub use crate::task::schedule::{Missed, ScheduleCreated, ScheduleEvent, ScheduleRemoved, Template};
}

/// A server that is a process of its own, as `taskbell serve` runs it.
#[cfg(feature = "server")]
pub mod server {
    pub use crate::app::run;
    pub use crate::config::{AuthMode, Config};
    pub use crate::tls::TlsError;
    pub use crate::tls::server::TlsFiles;
}

/// The items of the library that only the program `taskbell` uses. They may change in any release.
#[doc(hidden)]
pub mod internal {
    #[cfg(feature = "eventstore")]
    pub use crate::app::create_token_on_cluster;
    #[cfg(feature = "server")]
    pub use crate::app::{OfflineToken, OfflineTokenError, Rebuilt, create_token_offline, rebuild_views};
    #[cfg(feature = "server")]
    pub use crate::http::identity::new_token::TokenRequest;
    #[cfg(all(feature = "server", any(feature = "cli", feature = "testing")))]
    pub use crate::projection::refold::Refold;
    #[cfg(all(feature = "eventstore", any(feature = "testing", feature = "cli")))]
    pub use crate::store::check as store_check;
    #[cfg(feature = "eventstore")]
    pub use crate::store::import::{ImportError, ImportProgress, Imported, import};
    #[cfg(feature = "server")]
    pub use crate::store::import_lines::{ImportLinesError, ImportedLines, import_lines};
    #[cfg(all(feature = "server", any(feature = "cli", feature = "testing")))]
    pub use crate::store::merkle;
    #[cfg(feature = "server")]
    pub use crate::store::{
        BackupError, Hash, LogFault, Recorded, UpgradeError, UpgradeStep, Upgraded, Verified, VerifyError, VerifyRange,
        backup_log, now, upgrade, verify_log,
    };
    #[cfg(feature = "eventstore")]
    pub use crate::streams::claims::open::claim_open_keys;
    #[cfg(feature = "server")]
    pub use crate::task::access::Role;
    pub use crate::task::backoff::BackOff;
    pub use crate::task::json::value_of as json_value;
    pub use crate::task::limits::{ATTEMPTS_MAX, TIMEOUT_MAX_S, is_name, is_reserved, is_subject};
    #[cfg(feature = "worker")]
    pub use crate::tls::client::{Trust, client_config};
}
