//! What a request names: a task, a lease, a schedule, a queue, a token.

/// The status of a task that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Queued,
    Running,
    Cancelling,
    /// Succeeded, with a result and an output.
    Ended,
}

impl State {
    pub const ALL: [Self; 4] = [Self::Queued, Self::Running, Self::Cancelling, Self::Ended];

    pub const fn status(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Cancelling => "cancelling",
            Self::Ended => "succeeded",
        }
    }
}

/// What the request of a row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Nothing,
    /// A task, of the owner that the target says.
    Task(State),
    /// A lease of a task of another subject in this state; the target says whether the worker may take its kind.
    Lease(State),
    /// A queue of its own with one queued task of another subject; the target says whether the worker may take its kind.
    Waiting,
    Schedule,
    Token,
}

/// A task that exists from the beginning and that no request may change.
#[derive(Clone, Debug)]
pub struct FixedTask {
    pub id: String,
    pub owner: String,
    pub state: State,
    /// The text of the lease; empty if the task was never leased.
    pub lease: String,
}

/// The thing that one request names.
#[derive(Clone, Debug, Default)]
pub struct Thing {
    pub id: String,
    pub owner: String,
    pub lease: String,
    pub queue: String,
    /// The name of the worker that holds the lease, or that asks.
    pub worker: String,
}
