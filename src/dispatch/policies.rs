//! The operator's settings for each kind of task.

use std::collections::HashMap;
use std::time::Duration;

use crate::task::event::CancelLadder;

/// The lease time if the operator has set none: a lease expires if it is not renewed for this long.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(30);

/// The settings for one kind. A field that is none has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindPolicy {
    /// The lease time (a duration): a lease expires if it is not renewed for this long.
    pub lease: Option<Duration>,
    /// The cancel ladder: how long each rung of a cancel lasts.
    pub cancel: Option<CancelLadder>,
    /// The maximum number of attempts of a run, if the request names none.
    pub max_attempts: Option<u32>,
    /// The maximum duration of an attempt in seconds, if the request names none.
    pub timeout_s: Option<u64>,
}

/// The settings for all kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindPolicies(HashMap<String, KindPolicy>);

impl KindPolicies {
    /// Creates the policies from the settings of each kind.
    #[must_use]
    pub const fn new(settings: HashMap<String, KindPolicy>) -> Self {
        Self(settings)
    }

    /// The settings for this kind; none if nothing is set for it.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<&KindPolicy> {
        self.0.get(kind)
    }

    /// The lease time of this kind.
    #[must_use]
    pub fn lease_time(&self, kind: &str) -> Duration {
        self.of(kind).and_then(|kind| kind.lease).unwrap_or(LEASE_DEFAULT)
    }

    /// The shortest lease time of all kinds.
    #[must_use]
    pub fn shortest_lease_time(&self) -> Duration {
        self.0
            .values()
            .filter_map(|kind| kind.lease)
            .min()
            .map_or(LEASE_DEFAULT, |shortest| shortest.min(LEASE_DEFAULT))
    }

    /// Adds the default cancel ladders of handlers, for the kinds for which the operator has set none.
    #[must_use]
    pub fn with_defaults(mut self, ladders: impl IntoIterator<Item = (String, CancelLadder)>) -> Self {
        for (kind, ladder) in ladders {
            self.0.entry(kind).or_default().cancel.get_or_insert(ladder);
        }
        self
    }

    /// The kinds that have settings.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The cancel ladder of this kind.
    #[must_use]
    pub fn cancel_ladder(&self, kind: &str) -> CancelLadder {
        self.of(kind).and_then(|kind| kind.cancel).unwrap_or_default()
    }
}
