//! The parents whose cancel is still to be passed on to children. It holds no lock: the views are an argument.

use std::collections::VecDeque;

use crate::store::{LogEvent, Recorded, StreamOf};
use crate::task::event::Created;
use crate::task::{Event, Position, TaskId};
use crate::views::{Row, Views};

/// Children that get their request in one turn.
pub const BATCH: usize = 100;
/// Children that one turn checks at most.
pub const CHECKS: usize = 1000;

/// A parent whose cancel was requested, and those of its children that have not been checked since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentCancel {
    /// The parent.
    pub parent: TaskId,
    /// Position of the request.
    pub requested: Position,
    unchecked: Unchecked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unchecked {
    /// The children from this index on, in the order of their creation.
    From(usize),
    /// A child that was created after the request.
    One(TaskId),
}

/// The children of one parent whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The parent as it was before this turn: what is tried again where the turn fails.
    pub cancel: ParentCancel,
    /// The children that need a request.
    pub children: Vec<TaskId>,
    /// What is left after this turn.
    pub rest: Option<ParentCancel>,
}

/// The parents in the order of their turns.
#[derive(Debug, Default)]
pub struct Backlog(VecDeque<ParentCancel>);

/// Whether the task may still need a request: its present run is not over and has none.
#[must_use]
pub fn is_open(row: &Row) -> bool {
    !row.status().is_final() && row.cancel().is_none()
}

impl ParentCancel {
    /// All children of this task, where the cancel of its present run was requested.
    #[must_use]
    pub fn of_all_children(parent: &Row) -> Option<Self> {
        Self::of(parent, Unchecked::From(0))
    }

    fn of(parent: &Row, unchecked: Unchecked) -> Option<Self> {
        Some(Self { parent: parent.id(), requested: parent.cancel()?.requested, unchecked })
    }

    /// What this event adds to the backlog: a request, or a child that was created after one.
    fn of_event(recorded: &Recorded, views: &Views) -> Option<Self> {
        let (Some(StreamOf::Task(id)), LogEvent::Task(event)) = (recorded.stream.of(), &recorded.event) else {
            return None;
        };
        match event {
            Event::CancelRequested(_) if views.children(id).is_empty() => None,
            Event::CancelRequested(_) => {
                Some(Self { parent: id, requested: recorded.position, unchecked: Unchecked::From(0) })
            }
            Event::Created(created) => Self::of_child(id, created, views),
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Completed(_)
            | Event::Retried(_) => None,
        }
    }

    fn of_child(child: TaskId, created: &Created, views: &Views) -> Option<Self> {
        Self::of(views.get(created.parent?)?, Unchecked::One(child))
    }

    /// The next children that need a request; at most `room`, of at most `checks` that are checked.
    fn next_batch(self, views: &Views, checks: usize, room: usize) -> (Batch, usize) {
        let (candidates, from) = match &self.unchecked {
            Unchecked::From(from) => (views.children(self.parent).get(*from..).unwrap_or_default(), *from),
            Unchecked::One(child) => (std::slice::from_ref(child), 0),
        };
        let (mut children, mut checked) = (Vec::new(), 0);
        for child in candidates.iter().take(checks) {
            if children.len() == room {
                break;
            }
            checked += 1;
            children.extend(views.get(*child).filter(|row| is_open(row)).map(Row::id));
        }
        let is_done = checked == candidates.len();
        let rest = (!is_done).then_some(Self { unchecked: Unchecked::From(from + checked), ..self });
        (Batch { cancel: self, children, rest }, checked)
    }
}

impl Backlog {
    /// Adds what follows from an event that the views show.
    pub fn push_event(&mut self, recorded: &Recorded, views: &Views) {
        self.0.extend(ParentCancel::of_event(recorded, views));
    }

    /// Takes the parents whose turn it is, with [`BATCH`] children or after [`CHECKS`] checks. A parent that has more comes
    /// back at the end of the line when the rest of it is added again.
    pub fn take_turn(&mut self, views: &Views) -> Vec<Batch> {
        let (mut room, mut checks) = (BATCH, CHECKS);
        let mut turn = Vec::new();
        while room > 0
            && checks > 0
            && let Some(cancel) = self.0.pop_front()
        {
            let (batch, checked) = cancel.next_batch(views, checks, room);
            room -= batch.children.len();
            checks -= checked.max(1);
            turn.push(batch);
        }
        turn
    }

    /// Whether no parent is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<ParentCancel> for Backlog {
    fn extend<T: IntoIterator<Item = ParentCancel>>(&mut self, cancels: T) {
        self.0.extend(cancels);
    }
}
