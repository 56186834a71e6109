//! The modules that all resources share. [`middleware`], [`connection`], [`caller`], [`query`], [`json`] and
//! [`request`] read requests. [`response`] and [`error`] write responses.

pub mod caller;
pub mod connection;
pub mod error;
pub mod json;
pub mod middleware;
pub mod query;
pub mod request;
pub mod response;
