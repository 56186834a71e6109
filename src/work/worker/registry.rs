//! The handlers of a process, by kind.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::handler::Handler;
use crate::task::event::CancelLadder;
use crate::task::limits::is_name;

/// The handlers, by kind. Clones share the handlers.
#[derive(Clone, Default)]
pub struct Handlers(BTreeMap<String, Arc<dyn Handler>>);

/// A handler could not be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    /// The handler's kind is not a valid name.
    #[error("{0:?} is not a valid kind: use 1 to 64 of the characters a-z, 0-9, '.', '_', '-'")]
    BadKind(String),
    /// There is already a handler for this kind.
    #[error("there is a handler for {0} already")]
    Duplicate(String),
}

impl Handlers {
    /// Makes a registry without handlers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a handler for its kind.
    ///
    /// # Errors
    /// [`NotRegistered`] if its kind is not a valid name or has a handler already.
    pub fn register(&mut self, handler: impl Handler) -> Result<(), NotRegistered> {
        let kind = handler.kind().to_owned();
        if !is_name(&kind) {
            return Err(NotRegistered::BadKind(kind));
        }
        if self.0.contains_key(&kind) {
            return Err(NotRegistered::Duplicate(kind));
        }
        self.0.insert(kind, Arc::new(handler));
        Ok(())
    }

    /// Returns the handler of this kind.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.0.get(kind)
    }

    /// Returns the cancel ladder of each kind.
    #[must_use]
    pub fn policies(&self) -> BTreeMap<String, CancelLadder> {
        self.0.iter().map(|(kind, handler)| (kind.clone(), handler.defaults().cancel)).collect()
    }

    /// Returns the kinds, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
