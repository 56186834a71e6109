//! The strict reader of JSON, without a server.

mod canonical;
mod differential;
mod items;
mod scan;
mod text;

use taskbell::task::json::Fault;
use taskbell::task::json::scan::{Facts, Limits, scan};

/// Scans without limits.
fn facts(text: &str) -> Result<Facts, Fault> {
    scan(text, Limits::NONE)
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}
