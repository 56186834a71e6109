//! All integration tests in one binary, which links faster than one for each file.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod api;
mod app;
mod bench;
mod canary;
mod cli;
mod clocks;
#[cfg(feature = "eventstore")]
mod cluster;
mod crash;
mod credentials;
mod damage;
mod dependencies;
mod dispatch;
mod event_contract;
mod hostile;
mod json;
mod jwt;
mod library;
mod local_worker;
#[cfg(feature = "eventstore")]
mod log_import;
#[cfg(feature = "eventstore")]
mod log_listen;
mod log_upgrade;
mod log_verify;
mod matrix;
mod openapi;
mod projection;
#[cfg(feature = "eventstore")]
mod proxy;
mod push;
mod reactions;
mod remote_worker;
mod replay;
mod rooms;
mod sessions;
#[cfg(feature = "eventstore")]
mod store_check;
mod store_contract;
mod streams;
mod support;
mod task_laws;
mod task_spec;
mod tls;
mod ui;
mod views;
#[cfg(feature = "eventstore")]
mod wire;
mod worker_soak;
