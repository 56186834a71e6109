//! The modules that all resources share. [`middleware`], [`connection`], [`caller`], [`query`], [`filter`], [`body`], [`json`],
//! [`body_hash`] and [`request`] read requests. [`response`] and [`error`] write responses.

pub mod body;
pub mod body_hash;
pub mod caller;
pub mod connection;
pub mod error;
pub mod filter;
pub mod json;
pub mod middleware;
pub mod query;
pub mod request;
pub mod response;
