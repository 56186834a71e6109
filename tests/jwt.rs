//! JWTs of an issuer: which are accepted, which are refused and why, and when the keys of the issuer are read.
//!
//! The keys in `jwt/*.pk8` belong to these tests only; `openssl genpkey` made them.

mod bad;
mod good;
pub mod issuer;
mod key_server;
mod keys;
mod program;
mod vectors;
