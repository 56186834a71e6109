//! Events as a caller may see them.

use serde::{Serialize, Serializer};

use super::caller::Visibility;
use crate::store::{Recorded, RedactedEvent};

/// The JSON of a recorded event, as far as the caller may see it.
#[derive(Clone, Copy)]
pub struct VisibleEvent<'a> {
    /// The event.
    pub recorded: &'a Recorded,
    /// What the caller may see of it.
    pub visibility: Visibility,
}

impl Serialize for VisibleEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.visibility {
            Visibility::Whole => self.recorded.serialize(serializer),
            Visibility::Redacted => RedactedEvent(self.recorded).serialize(serializer),
        }
    }
}
