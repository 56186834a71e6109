//! events/ and the Rust types, both ways.
