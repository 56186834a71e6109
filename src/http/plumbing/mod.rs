//! The modules that all resources share. [`http1`], [`middleware`], [`connection`], [`caller`], [`query`], [`filter`], [`body`],
//! [`json`], [`body_hash`] and [`request`] read requests. [`origin`] and [`cors`] know which pages may send them.
//! [`public_address`] and [`forwarded`] say by which names and proxies clients reach the server. [`scope`] says whose tasks a
//! request is about. [`quota`] and [`scans`] bound what clients use at the same
//! time. [`response`], [`redact`] and [`error`] write responses. [`openapi`] describes the routes.

pub mod body;
pub mod body_hash;
pub mod caller;
pub mod connection;
pub mod cors;
pub mod error;
pub mod filter;
pub mod forwarded;
pub mod http1;
pub mod json;
pub mod middleware;
pub mod openapi;
pub mod origin;
pub mod public_address;
pub mod query;
pub mod quota;
pub mod redact;
pub mod request;
pub mod response;
pub mod scans;
pub mod scope;
