//! The list of the cascade: the parents whose children may have to be cancelled. The module takes no lock; the caller
//! passes the views.
//!
//! The cascade works in rounds. In a round it checks some children and requests the cancel of those that need it.

use std::collections::VecDeque;

use crate::store::{LogEvent, Recorded, StreamSubject};
use crate::task::event::Created;
use crate::task::{Event, Position, TaskId};
use crate::views::{Row, Views};

/// The maximum number of children that get a request to cancel in one round.
pub const REQUESTS_PER_ROUND: usize = 100;
/// The maximum number of children that are checked in one round.
pub const CHECKS_PER_ROUND: usize = 1000;

/// A parent whose cancel was requested, and its children that have not been checked since the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentCancel {
    /// The parent.
    pub parent: TaskId,
    /// Position of the parent's `CancelRequested` in the log.
    pub requested_position: Position,
    unchecked: UncheckedChildren,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UncheckedChildren {
    /// All children from this index on, in the order of their creation.
    AllFrom(usize),
    /// One child that was created after the request.
    One(TaskId),
}

/// The children of one parent that get a request to cancel in this round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildBatch {
    /// The parent and its unchecked children before this round. If the round fails, this is added to the list again.
    pub before: ParentCancel,
    /// The children that get a request.
    pub children: Vec<TaskId>,
    /// The parent and its unchecked children after this round; `None` if no unchecked children are left.
    pub rest: Option<ParentCancel>,
}

/// The parents with unchecked children, in the order in which they are handled.
#[derive(Debug, Default)]
pub struct ParentsToCancel(VecDeque<ParentCancel>);

/// Whether the task can get a request to cancel: its present run is not over and has no such request. (Which tasks a bulk
/// cancel cancels is another rule: `projection::bulk_cancel`.)
#[must_use]
pub fn lacks_cancel_request(row: &Row) -> bool {
    !row.status().is_final() && row.cancel().is_none()
}

impl ParentCancel {
    /// The task as a parent with all its children unchecked; `None` if its present run has no request to cancel.
    #[must_use]
    pub fn of_all_children(parent: &Row) -> Option<Self> {
        Self::of(parent, UncheckedChildren::AllFrom(0))
    }

    fn of(parent: &Row, unchecked: UncheckedChildren) -> Option<Self> {
        Some(Self { parent: parent.id(), requested_position: parent.cancel()?.requested_position, unchecked })
    }

    /// What this event adds to the list. That is the parent if the event requests its cancel, or a child if the event
    /// creates it after its parent's cancel was requested.
    fn of_event(recorded: &Recorded, views: &Views) -> Option<Self> {
        let (Some(StreamSubject::Task(id)), LogEvent::Task(event)) = (recorded.stream.subject(), &recorded.event)
        else {
            return None;
        };
        match event {
            Event::CancelRequested(_) if views.children(id).is_empty() => None,
            Event::CancelRequested(_) => {
                let unchecked = UncheckedChildren::AllFrom(0);
                Some(Self { parent: id, requested_position: recorded.position, unchecked })
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
        Self::of(&*views.get(created.parent?)?, UncheckedChildren::One(child))
    }

    /// Checks at most `checks_max` children, until `requests_max` of them can get a request. Returns the batch, and how many
    /// children were checked.
    fn next_batch(self, views: &Views, checks_max: usize, requests_max: usize) -> (ChildBatch, usize) {
        let (candidates, from) = match &self.unchecked {
            UncheckedChildren::AllFrom(from) => (views.children(self.parent).get(*from..).unwrap_or_default(), *from),
            UncheckedChildren::One(child) => (std::slice::from_ref(child), 0),
        };
        let (mut children, mut checked) = (Vec::new(), 0);
        for child in candidates.iter().take(checks_max) {
            if children.len() == requests_max {
                break;
            }
            checked += 1;
            children.extend(views.get(*child).filter(|row| lacks_cancel_request(row)).map(|row| row.id()));
        }
        let is_done = checked == candidates.len();
        let rest = (!is_done).then_some(Self { unchecked: UncheckedChildren::AllFrom(from + checked), ..self });
        (ChildBatch { before: self, children, rest }, checked)
    }
}

impl ParentsToCancel {
    /// If the event makes a check necessary, adds the parent (or the one child). The views must show the event.
    pub fn push_event(&mut self, recorded: &Recorded, views: &Views) {
        self.0.extend(ParentCancel::of_event(recorded, views));
    }

    /// Takes parents from the front of the list for one round, until the round has [`REQUESTS_PER_ROUND`] children or
    /// [`CHECKS_PER_ROUND`] were checked. If a parent has unchecked children left, the caller adds [`ChildBatch::rest`] to the
    /// end of the list later.
    pub fn take_round(&mut self, views: &Views) -> Vec<ChildBatch> {
        let (mut requests_left, mut checks_left) = (REQUESTS_PER_ROUND, CHECKS_PER_ROUND);
        let mut round = Vec::new();
        while requests_left > 0
            && checks_left > 0
            && let Some(cancel) = self.0.pop_front()
        {
            let (batch, checked) = cancel.next_batch(views, checks_left, requests_left);
            requests_left -= batch.children.len();
            checks_left -= checked.max(1);
            round.push(batch);
        }
        round
    }

    /// Whether no parent is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Extend<ParentCancel> for ParentsToCancel {
    fn extend<T: IntoIterator<Item = ParentCancel>>(&mut self, cancels: T) {
        self.0.extend(cancels);
    }
}
