//! The modules that all resources share. [`middleware`], [`connection`], [`caller`], [`query`], [`body`], [`json`] and
//! [`request`] read requests. [`response`] and [`error`] write responses.
//! [`concurrency`] limits how many long-lived requests there are at the same time.

pub mod body;
pub mod caller;
pub mod concurrency;
pub mod connection;
pub mod error;
pub mod json;
pub mod middleware;
pub mod query;
pub mod request;
pub mod response;
