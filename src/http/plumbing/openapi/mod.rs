//! The description of the HTTP API as an `OpenAPI` 3.1 document.
//!
//! Each resource has a module `docs` with one function for each of its routes, of the same name as the handler. The route
//! table in `http/mod.rs` calls both, so a route without a description doesn't compile. The tests send requests to a real
//! server and check that its responses match the schemas.
//!
//! [`schema`] makes JSON schemas, [`operation`] describes a route, [`parameters`] and [`answers`] have what several routes
//! share. [`tasks`], [`live`] and [`events`] have the schemas with names, [`problems`] the example of each
//! refusal. [`document`] puts everything together.

pub mod answers;
pub mod document;
pub mod events;
pub mod live;
pub mod operation;
pub mod parameters;
pub mod problems;
pub mod schema;
pub mod tasks;
