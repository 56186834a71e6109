//! Tests of the views.

mod aside;
mod bounds;
mod fold;
pub(crate) mod history;
mod laws;
mod lists;
mod offers;
mod oracle;
mod rules;
mod world;
