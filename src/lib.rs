//! Taskbell: background tasks that people can see and stop.
//!
//! A program submits a task and answers its own caller at once. The task runs in the background: in the same process, or
//! in a worker elsewhere. Until it has ended, its progress is shown, and a person can cancel it. Every change is an event in
//! one append-only log, and everything that is shown is computed from that log.
//!
//! # In your own actix-web application
//!
//! Implement [`Handler`] for each kind of work, start a `Taskbell` with them, mount its `routes` and `submit` tasks.
//! `examples/embed.rs` is a whole application.
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
//! # In a worker elsewhere
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
//! | `testing` | no | the modules inside, for the tests of this package; no part of them is stable |
//!
//! An application that embeds a server takes `default-features = false, features = ["server"]`; a worker takes
//! `default-features = false, features = ["worker"]`, and compiles neither actix nor SQLite. With neither feature there are
//! the events and [`Handler`], for a library of handlers.

// The rooms, lowest first; a room imports lower rooms only, and `tests/rooms.rs` checks that:
//
//   task        the rules, as pure functions
//   clock       the wall clock
//   store       the log
//   views       the read side: pure folds of the log
//   streams     the write side: one actor for each stream
//   projection  the only writer of the views
//   dispatch    which task runs next, leases, timers
//   reactions   commands that follow from events: cascades, schedules
//   push        frames for open websockets
//   wire        the log over the gRPC protocol of EventStoreDB
//   work        handlers, the worker inside the process and the remote worker, the built-in kinds
//   http        the routes
//   app         the composition root; config: the settings of a server process
//
// The walk of a cancel, downhill: the line of the table in http/mod.rs → http/tasks.rs `cancel` builds the command →
// streams/registry.rs finds the shard → streams/shard.rs finds or starts the task's actor → streams/actor.rs, one command
// after the other → streams/stream_state.rs: task/decide.rs decides, streams/collector.rs writes, task/state.rs evolves →
// the receipt; the request waits until the views show it, and is over. The rest follows from the event, in the same way live
// and after a restart: projection/projector.rs applies it to views/ → push/hub.rs sends one set of frames to each socket that
// it concerns; dispatch/dispatcher/mod.rs sends the worker its directive, by a message inside the process, by the answer to a
// waiting heartbeat (dispatch/lease_table.rs) outside; the acknowledgement and the end come back as commands by the same way.
// docs/architecture.md has the other walks.
//
// The rooms are public for the tests and benches of this package alone. rustfmt finds a module only if its declaration is
// written out, so each is declared twice.
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
pub mod store;
#[cfg(feature = "testing")]
pub mod streams;
#[cfg(feature = "testing")]
pub mod task;
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
mod store;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod streams;
#[cfg(not(feature = "testing"))]
// A worker reports how attempts end, and decides nothing.
#[cfg_attr(not(feature = "server"), allow(dead_code, unused_imports))]
mod task;
#[cfg(all(feature = "server", not(feature = "testing")))]
mod views;
// Only the tests build a log that takes writes over it.
#[cfg(all(feature = "eventstore", not(feature = "testing")))]
#[allow(dead_code, unused_imports)]
mod wire;
#[cfg(not(feature = "testing"))]
// Without a server and without a worker nothing runs the handlers that are defined.
#[cfg_attr(not(any(feature = "server", feature = "worker")), allow(dead_code, unused_imports))]
mod work;

pub use async_trait::async_trait;

pub use task::{Invalid, JsonText, Position, Revision, Status, TaskId, Timestamp};
pub use work::{Context, Defaults, Done, Failure, Handler, Handlers, NotRegistered, Step, StepGuard};

#[cfg(feature = "worker")]
pub use work::{CommandHandler, Note, RemoteError, RemoteWorker};

#[cfg(feature = "server")]
pub use app::{Options, StartError, Taskbell};
#[cfg(feature = "server")]
pub use dispatch::policies::{KindPolicies, KindPolicy};
#[cfg(feature = "server")]
pub use http::Problem;
#[cfg(feature = "server")]
pub use store::{Hash, LogEvent, LogSubscription, Meta, OpenError, ReadError, Recorded, StreamName, StreamOf, Via};
#[cfg(feature = "eventstore")]
pub use store::{InvalidUrl, StoreUrl};
#[cfg(feature = "server")]
pub use views::Limits;

/// The events: everything that the log can say of a task, an owner's bell, a queue or a schedule.
///
/// Their JSON is described by the schemas in `events/`.
pub mod event {
    #[cfg(feature = "server")]
    pub use crate::task::bell::{BellEvent, Seen};
    pub use crate::task::event::{
        AttemptFailed, CancelAcknowledged, CancelEscalated, CancelPolicy, CancelRequested, Completed, Created, Event,
        Idempotency, Outcome, OutputKept, Progress, Queued, QueuedReason, Released, ReleasedReason, Retried, Rung,
        Started, TaskError,
    };
    #[cfg(feature = "server")]
    pub use crate::task::queue::{Paused, QueueEvent, Resumed};
    #[cfg(feature = "server")]
    pub use crate::task::schedule::{Missed, ScheduleCreated, ScheduleEvent, ScheduleRemoved, Template};
}

/// A server in a process of its own, as `taskbell serve` runs it.
#[cfg(feature = "server")]
pub mod server {
    pub use crate::app::run;
    pub use crate::config::Config;
}

/// What the program of this package needs of the library. It may change in any release.
#[doc(hidden)]
pub mod internal {
    #[cfg(all(feature = "eventstore", any(feature = "testing", feature = "cli")))]
    pub use crate::store::check as store_check;
    #[cfg(feature = "eventstore")]
    pub use crate::store::import::{ImportError, Imported, Step, import};
    #[cfg(feature = "eventstore")]
    pub use crate::streams::claims::open::claim_open_keys;
    pub use crate::task::backoff::BackOff;
    pub use crate::task::json::value_of as json_value;
    pub use crate::task::limits::{ATTEMPTS_MAX, TIMEOUT_MAX_S, is_name, is_own};
}
