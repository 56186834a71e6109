//! A fold of the log by a client that reads the log over HTTP. It checks the chain of hashes, so it trusts nothing but the
//! events themselves.

use crate::store::{Hash, ReadError, Recorded};
use crate::task::Position;
use crate::views::Views;
use crate::views::digest::Digests;

/// Views that are folded from the lines of `GET /v1/log`.
#[derive(Debug)]
pub struct Refold {
    views: Views,
    hash: Hash,
}

impl Default for Refold {
    /// The views of an empty log.
    fn default() -> Self {
        Self { views: Views::default(), hash: Hash::ZERO }
    }
}

impl Refold {
    /// Applies the next event of the log.
    ///
    /// # Errors
    /// The line is not an event, not the next event, or not one that continues the chain of hashes.
    pub fn apply(&mut self, line: &str) -> Result<Position, ReadError> {
        let recorded = Recorded::from_json(line)?;
        let next = Position(self.views.position().0 + 1);
        if recorded.position != next {
            let found = recorded.position;
            return Err(ReadError::Damaged(format!("event {next} is missing: event {found} follows")));
        }
        if recorded.expected_hash(self.hash) != recorded.hash {
            return Err(ReadError::Damaged(format!(
                "event {next} doesn't continue the chain of hashes: it was changed"
            )));
        }
        self.hash = recorded.hash;
        self.views.apply(&recorded);
        Ok(next)
    }

    /// The hash of the last event.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }

    /// The hashes of the views.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.views.digest_source().finish()
    }
}
