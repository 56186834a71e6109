//! JSON from outside, read strictly and kept as its text.
//!
//! Nothing here knows a key that has a meaning to a library, and nothing depends on the features with which `serde_json` is
//! built: values are never read into its tree, except for handlers that ask for one.
//!
//! Reading order: [`scan`] (the grammar, repeated keys, limits), [`text`] ([`JsonText`]), [`items`] (the items of a batch),
//! [`canonical`] (when two requests are equal); `walk` (the tokens of a scanned text), `strings`, [`fault`].

#[cfg(feature = "server")]
pub mod canonical;
pub mod fault;
#[cfg(feature = "server")]
pub mod items;
pub mod scan;
mod strings;
pub mod text;
mod walk;

pub use fault::Fault;
pub use text::JsonText;

/// The value of a text, as [`JsonText::to_value`], where it is JSON of at most 128 levels.
///
/// # Errors
/// The text is no JSON, repeats a key in an object, or is nested too deeply.
pub fn value_of(text: &str) -> Result<serde_json::Value, Fault> {
    scan::scan(text, scan::Limits { depth: 128, ..scan::Limits::NONE })?;
    Ok(walk::value(&mut walk::Walk::new(text)))
}
