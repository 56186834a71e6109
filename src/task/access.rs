//! Who may do what: one function, [`decide_access`], decides for every route, socket, export and page.
//!
//! A decision needs the caller's role and subject and the [`Action`]. It has one of three results: the caller may, the caller
//! may not see that the thing exists, or the caller sees it but its role may not do this.

use serde::{Deserialize, Serialize};

/// What a caller may do. Each caller has one role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sees, creates and cancels the tasks of its own subject.
    User,
    /// As a user, but for the tasks of all owners. Also escalates cancels, and controls queues and schedules.
    Operator,
    /// Reads the log and all tasks, without their inputs, results and outputs. Changes nothing.
    Auditor,
    /// As a user. Also takes leases of the kinds that its credential names.
    Worker,
    /// May do everything. Manages the tokens.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::User, Self::Operator, Self::Auditor, Self::Worker, Self::Admin];

    /// The name of the role, as requests, events and settings write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Worker => "worker",
            Self::Admin => "admin",
        }
    }

    /// The role of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether this role sees the tasks of all owners.
    #[must_use]
    pub const fn sees_everyone(self) -> bool {
        matches!(self, Self::Operator | Self::Auditor | Self::Admin)
    }
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Create a task, or a schedule's template, for this owner.
    CreateTask {
        /// The owner.
        owner: &'a str,
    },
    /// Read a task, its events or its changes, or count the tasks of this owner.
    ReadTasks {
        /// The owner.
        owner: &'a str,
    },
    /// Read or count the tasks of all owners.
    ReadAllTasks,
    /// Cancel a task or retry it.
    CommandTask {
        /// The owner.
        owner: &'a str,
    },
    /// Cancel the tasks of all owners that match a filter.
    CommandAllTasks,
    /// Move a cancel to a higher rung.
    Escalate {
        /// The owner.
        owner: &'a str,
    },
    /// Record what the caller has seen of its own bell.
    MarkSeen,
    /// Read the queues.
    ReadQueues,
    /// Pause or resume a queue.
    ControlQueues,
    /// Read the schedules.
    ReadSchedules,
    /// Create or remove a schedule.
    ControlSchedules,
    /// Take leases and report about them. The kinds are limited by the credential.
    UseLeases,
    /// Read the log.
    ReadLog,
    /// Read the metrics.
    ReadMetrics,
    /// Create, list and revoke tokens.
    ManageTokens,
    /// Open a session for the caller's own subject, end it, or get a ticket.
    UseSession,
    /// Get a short-lived bearer for a user of another subject.
    OpenSessionOfUser,
    /// End all sessions of a subject: those that it has opened, and those that an operator has opened for it.
    EndSessionsOfSubject,
}

/// The decision about an [`Action`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The caller may.
    Granted,
    /// The caller may. Inputs, results and outputs are to be left out of the response.
    GrantedRedacted,
    /// The caller must not learn that the thing exists.
    Hidden,
    /// The role of the caller may not do this.
    Denied,
}

/// Decides whether a caller with this role and subject may do this.
#[must_use]
pub fn decide_access(role: Role, subject: &str, action: Action<'_>) -> Access {
    let granted_if = |condition| if condition { Access::Granted } else { Access::Denied };
    let (controls, changes) = (matches!(role, Role::Operator | Role::Admin), role != Role::Auditor);
    let sees = |owner: &str| role.sees_everyone() || owner == subject;
    let read = if role == Role::Auditor { Access::GrantedRedacted } else { Access::Granted };
    match action {
        Action::ReadTasks { owner } | Action::CommandTask { owner } | Action::Escalate { owner } if !sees(owner) => {
            Access::Hidden
        }
        Action::ReadAllTasks | Action::CommandAllTasks if !role.sees_everyone() => Access::Hidden,
        Action::ReadTasks { .. } | Action::ReadAllTasks => read,
        Action::CreateTask { owner } => granted_if(changes && (controls || owner == subject)),
        Action::CommandTask { .. } | Action::CommandAllTasks | Action::MarkSeen => granted_if(changes),
        Action::Escalate { .. } | Action::ControlQueues | Action::ControlSchedules | Action::OpenSessionOfUser => {
            granted_if(controls)
        }
        Action::ReadQueues | Action::ReadMetrics => granted_if(role.sees_everyone()),
        Action::ReadSchedules if role.sees_everyone() => read,
        Action::ReadLog if matches!(role, Role::Auditor | Role::Admin) => read,
        Action::ReadSchedules | Action::ReadLog => Access::Denied,
        Action::UseLeases => granted_if(matches!(role, Role::Worker | Role::Admin)),
        Action::ManageTokens | Action::EndSessionsOfSubject => granted_if(role == Role::Admin),
        Action::UseSession => Access::Granted,
    }
}
