//! The modules that all resources share. [`http1`], [`middleware`], [`connection`], [`caller`], [`query`], [`filter`], [`body`],
//! [`json`], [`body_hash`] and [`request`] read requests. [`quota`] and [`scans`] bound what clients use at the same
//! time. [`response`] and [`error`] write responses. [`openapi`] describes the routes.

pub mod body;
pub mod body_hash;
pub mod caller;
pub mod connection;
pub mod error;
pub mod filter;
pub mod http1;
pub mod json;
pub mod middleware;
pub mod openapi;
pub mod query;
pub mod quota;
pub mod request;
pub mod response;
pub mod scans;
