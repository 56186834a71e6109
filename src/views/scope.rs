//! Whose tasks a list, a bell or a subscription is about.

/// Whose tasks. The same scope gives a list, its counters and its changes the same set of tasks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The tasks of all owners.
    Everyone,
    /// The tasks of these owners. An empty list is no task.
    Owners(Vec<String>),
}

impl Scope {
    /// The tasks of one owner.
    #[must_use]
    pub fn of(owner: impl Into<String>) -> Self {
        Self::Owners(vec![owner.into()])
    }

    /// Whether the scope has the tasks of this owner.
    #[must_use]
    pub fn includes(&self, owner: &str) -> bool {
        match self {
            Self::Everyone => true,
            Self::Owners(owners) => owners.iter().any(|known| known == owner),
        }
    }

    /// Whether the scope has all tasks of the other one.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everyone, _) => true,
            (Self::Owners(_), Self::Everyone) => false,
            (Self::Owners(_), Self::Owners(others)) => others.iter().all(|owner| self.includes(owner)),
        }
    }
}
