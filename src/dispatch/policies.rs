//! What holds for a kind of work, as the operator set it.

use std::collections::HashMap;
use std::time::Duration;

use crate::task::event::CancelPolicy;

/// How long a lease lives without a heartbeat where nothing is set (the contract's worker rules).
pub const LEASE: Duration = Duration::from_secs(30);

/// What is set for one kind; none: the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindPolicy {
    /// How long a lease lives without a heartbeat.
    pub lease: Option<Duration>,
    /// The ladder of a cancel.
    pub cancel: Option<CancelPolicy>,
    /// Attempts of one run, where the request doesn't say.
    pub max_attempts: Option<u32>,
    /// Bound on one attempt in seconds, where the request doesn't say.
    pub timeout_s: Option<u64>,
}

/// What is set for all kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindPolicies(HashMap<String, KindPolicy>);

impl KindPolicies {
    /// These settings.
    #[must_use]
    pub const fn new(settings: HashMap<String, KindPolicy>) -> Self {
        Self(settings)
    }

    /// What is set for this kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> Option<&KindPolicy> {
        self.0.get(kind)
    }

    /// How long a lease of this kind lives without a heartbeat.
    #[must_use]
    pub fn lease(&self, kind: &str) -> Duration {
        self.of(kind).and_then(|kind| kind.lease).unwrap_or(LEASE)
    }

    /// The shortest lease of all kinds.
    #[must_use]
    pub fn shortest_lease(&self) -> Duration {
        self.0.values().filter_map(|kind| kind.lease).min().map_or(LEASE, |shortest| shortest.min(LEASE))
    }

    /// The same with the ladders that handlers bring with them, where the operator has set none.
    #[must_use]
    pub fn with_defaults(mut self, ladders: impl IntoIterator<Item = (String, CancelPolicy)>) -> Self {
        for (kind, ladder) in ladders {
            self.0.entry(kind).or_default().cancel.get_or_insert(ladder);
        }
        self
    }

    /// The kinds that something is set for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The ladder of a cancel of this kind.
    #[must_use]
    pub fn cancel(&self, kind: &str) -> CancelPolicy {
        self.of(kind).and_then(|kind| kind.cancel).unwrap_or_default()
    }
}
