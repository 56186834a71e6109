//! The read side.

mod history;
mod laws;
mod oracle;
mod rules;
