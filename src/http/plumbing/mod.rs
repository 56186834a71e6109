//! What all resources share: [`middleware`], [`connection`], [`json`], [`query`], [`caller`] and [`error`].

pub mod caller;
pub mod connection;
pub mod error;
pub mod json;
pub mod middleware;
pub mod query;
