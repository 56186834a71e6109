//! What all resources share: [`middleware`], [`connection`], [`caller`], [`query`], [`filter`], [`json`], [`body_hash`] and
//! [`request`] read requests; [`answer`] and [`error`] write answers.

pub mod answer;
pub mod body_hash;
pub mod caller;
pub mod connection;
pub mod error;
pub mod filter;
pub mod json;
pub mod middleware;
pub mod query;
pub mod request;
