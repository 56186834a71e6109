//! The modules that all resources share. [`middleware`], [`connection`], [`caller`], [`query`], [`body`], [`json`] and
//! [`request`] read requests. [`quota`] and [`scans`] bound what clients use at the same time. [`response`] and [`error`] write responses.

pub mod body;
pub mod caller;
pub mod connection;
pub mod error;
pub mod json;
pub mod middleware;
pub mod query;
pub mod quota;
pub mod request;
pub mod response;
pub mod scans;
