//! Ids of tasks, revisions in a stream, positions in the log.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

/// The id of a task: a UUIDv7, as lower-case, hyphenated text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TaskId(Uuid);

impl TaskId {
    /// The id with these bits. This module creates no new ids, because a UUIDv7 needs the time.
    #[must_use]
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id)
    }

    /// The bits of the id.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

/// A map with ids, or numbers, that the server itself has made as its keys. A client can't choose keys that collide, so the map
/// needs no hash against chosen keys, which takes ten times as long.
pub type IdMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The text is not a lower-case, hyphenated UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a task id: a lower-case, hyphenated UUID is needed")]
pub struct InvalidTaskId;

impl FromStr for TaskId {
    type Err = InvalidTaskId;

    /// Accepts only the lower-case, hyphenated form, so that two ids are equal exactly if their texts are equal.
    fn from_str(text: &str) -> Result<Self, InvalidTaskId> {
        // Of the forms that are parsed here, only the hyphenated one has this length.
        let is_exact = text.len() == Hyphenated::LENGTH && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        if is_exact { Uuid::try_parse(text).map(Self).map_err(|_| InvalidTaskId) } else { Err(InvalidTaskId) }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for TaskId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Defines a number that counts events.
macro_rules! event_number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

event_number!(
    /// The number of an event in its stream. The first event has revision 0.
    Revision
);
event_number!(
    /// The number of an event in the log. The first event has position 1; position 0 means "before the first event".
    Position
);
