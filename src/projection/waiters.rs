//! The requests that wait until the views show what they have written. When the views have changed, exactly those wake up whose
//! change the views show now.
//!
//! A request registers first and then looks at the views. So a change after the look finds the request registered, and a change
//! before the look is seen by it: no request misses its change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::task::{IdMap, Position, Revision, TaskId};
use crate::views::TaskChange;

/// All requests that wait. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<Waiting>>);

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The views show the log up to this position.
    Position(Position),
    /// The views show the task at this revision or a later one.
    Revision(TaskId, Revision),
}

#[derive(Default)]
struct Waiting {
    /// The number of the next request.
    next: u64,
    by_position: BTreeMap<(Position, u64), oneshot::Sender<()>>,
    by_task: IdMap<TaskId, Vec<RevisionWaiter>>,
}

struct RevisionWaiter {
    revision: Revision,
    number: u64,
    wake: oneshot::Sender<()>,
}

/// A request that waits. Its drop ends the wait.
pub(super) struct Waiter {
    waiters: Waiters,
    goal: Goal,
    number: u64,
    woken: oneshot::Receiver<()>,
}

impl Waiters {
    /// Registers a request.
    pub(super) fn register(&self, goal: Goal) -> Waiter {
        let (wake, woken) = oneshot::channel();
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next += 1;
        match goal {
            Goal::Position(position) => drop(waiting.by_position.insert((position, number), wake)),
            Goal::Revision(task, revision) => {
                waiting.by_task.entry(task).or_default().push(RevisionWaiter { revision, number, wake });
            }
        }
        drop(waiting);
        Waiter { waiters: self.clone(), goal, number, woken }
    }

    /// Wakes the requests for which the views show enough, now that they show these changes and the log up to this position.
    pub(super) fn wake(&self, position: Position, changes: &[TaskChange]) {
        let mut ready = Vec::new();
        let mut waiting = self.lock();
        while let Some(first) = waiting.by_position.first_entry().filter(|first| first.key().0 <= position) {
            ready.push(first.remove());
        }
        for change in changes {
            // Most changes are of tasks for which no request waits.
            if waiting.by_task.is_empty() {
                break;
            }
            waiting.take_shown(change.after.id(), change.after.revision(), &mut ready);
        }
        drop(waiting);
        send_all(ready);
    }

    /// Wakes all requests, because the views will not change any more.
    pub(super) fn wake_all(&self) {
        let Waiting { by_position, by_task, .. } = std::mem::take(&mut *self.lock());
        send_all(by_position.into_values().chain(by_task.into_values().flatten().map(|waiter| waiter.wake)));
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Moves the requests that wait for this revision of the task, or for an earlier one, to `ready`.
    fn take_shown(&mut self, task: TaskId, revision: Revision, ready: &mut Vec<oneshot::Sender<()>>) {
        let Some(waiters) = self.by_task.get_mut(&task) else { return };
        ready.extend(waiters.extract_if(.., |waiter| waiter.revision <= revision).map(|waiter| waiter.wake));
        if waiters.is_empty() {
            self.by_task.remove(&task);
        }
    }

    fn remove(&mut self, goal: Goal, number: u64) {
        match goal {
            Goal::Position(position) => drop(self.by_position.remove(&(position, number))),
            Goal::Revision(task, _) => {
                let Some(waiters) = self.by_task.get_mut(&task) else { return };
                waiters.retain(|waiter| waiter.number != number);
                if waiters.is_empty() {
                    self.by_task.remove(&task);
                }
            }
        }
    }
}

impl Waiter {
    /// Waits until the request is woken.
    pub(super) async fn woken(&mut self) {
        // An error would mean that the sender is gone without a wake. Then, too, the request looks at the views.
        let _ = (&mut self.woken).await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        // A request that was woken is not registered any more.
        if self.woken.is_terminated() {
            return;
        }
        self.waiters.lock().remove(self.goal, self.number);
    }
}

fn send_all(ready: impl IntoIterator<Item = oneshot::Sender<()>>) {
    for wake in ready {
        // An error means that the request has ended meanwhile.
        let _ = wake.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::store::new_id;

    fn is_empty(waiters: &Waiters) -> bool {
        let waiting = waiters.lock();
        waiting.by_position.is_empty() && waiting.by_task.is_empty()
    }

    #[test]
    fn a_position_wakes_the_requests_up_to_it_and_no_other() {
        let waiters = Waiters::default();
        let mut requests = [1, 2, 2, 3].map(|position| waiters.register(Goal::Position(Position(position))));
        waiters.wake(Position(2), &[]);
        let woken = requests.each_mut().map(|request| pin!(request.woken()).now_or_never().is_some());
        assert_eq!(woken, [true, true, true, false]);
        drop(requests);
        assert!(is_empty(&waiters));
    }

    #[test]
    fn a_request_that_ends_early_is_not_registered_any_more() {
        let (waiters, task) = (Waiters::default(), TaskId::from_uuid(new_id()));
        let first = waiters.register(Goal::Revision(task, Revision(0)));
        let mut second = waiters.register(Goal::Revision(task, Revision(0)));
        drop((first, waiters.register(Goal::Position(Position(1)))));
        waiters.wake_all();
        assert!(pin!(second.woken()).now_or_never().is_some() && is_empty(&waiters));
    }
}
