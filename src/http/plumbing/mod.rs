//! What all resources share: [`middleware`], [`connection`], [`caller`], [`query`], [`json`] and [`request`] read requests;
//! [`answer`] and [`error`] write answers.

pub mod answer;
pub mod caller;
pub mod connection;
pub mod error;
pub mod json;
pub mod middleware;
pub mod query;
pub mod request;
