//! The limit on the tasks of one owner that are not final.
//!
//! The views count the tasks of an owner exactly, but they show a new task only after its append. So each request for a new task
//! takes a permit before the append, and holds it until the views show the task. What the views count and the permits of tasks
//! that they don't show yet never exceed the limit together, however many requests arrive at the same time.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::plumbing::error::{Problem, Refusal};
use crate::projection::reader::ViewsReader;
use crate::task::{Revision, Status, TaskId};
use crate::views::{Row, Views};

/// The tasks with a permit, by owner, each with the revision at which the views show what the permit was taken for. An owner
/// without a permit has no entry.
type Permits = HashMap<String, HashMap<TaskId, Revision>>;

/// The limit, and the permits. A clone counts together with the original.
///
/// On a cluster each server counts in its own views. Servers that create tasks of one owner at the same moment may exceed the
/// limit together.
#[derive(Clone, Default)]
pub struct OpenTasks {
    max: Option<u64>,
    permits: Arc<Mutex<Permits>>,
}

/// The right to add one task of an owner. It ends when this value is dropped.
pub struct OpenTaskPermit {
    owner: String,
    task: TaskId,
    permits: Arc<Mutex<Permits>>,
}

impl OpenTasks {
    /// The limit on the tasks of each owner; `None` stands for any number.
    #[must_use]
    pub fn new(max: Option<u64>) -> Self {
        Self { max, ..Self::default() }
    }

    /// Takes a permit to create this task; `None` if there is no limit. The permit is to be held until the views show the task,
    /// or until the append has failed.
    ///
    /// # Errors
    /// 429 `too_many_tasks`.
    pub fn acquire(&self, reader: &ViewsReader, owner: &str, task: TaskId) -> Result<Option<OpenTaskPermit>, Problem> {
        self.acquire_from(reader, owner, task, Revision(0))
    }

    /// Takes a permit to begin another run of this task; `None` if there is no limit, or if the task is not final.
    ///
    /// # Errors
    /// 429 `too_many_tasks`.
    pub fn acquire_for_retry(&self, reader: &ViewsReader, task: TaskId) -> Result<Option<OpenTaskPermit>, Problem> {
        let final_task = |row: Cow<Row>| row.status().is_final().then(|| (row.owner().to_owned(), row.revision()));
        let final_task = reader.views().get(task).and_then(final_task);
        final_task
            .map_or(Ok(None), |(owner, Revision(last))| self.acquire_from(reader, &owner, task, Revision(last + 1)))
    }

    fn acquire_from(
        &self,
        reader: &ViewsReader,
        owner: &str,
        task: TaskId,
        revision: Revision,
    ) -> Result<Option<OpenTaskPermit>, Problem> {
        let Some(max) = self.max else { return Ok(None) };
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        let views = reader.views();
        let of_owner = permits.entry(owner.to_owned()).or_default();
        let open = open_tasks(&views, owner);
        if open + of_owner.len() as u64 >= max {
            // From the moment when the views show a task until its permit is dropped, the task counts twice: in the views
            // and as a permit. So the permits of such tasks are removed.
            of_owner.retain(|task, revision| views.get(*task).is_none_or(|row| row.revision() < *revision));
        }
        if open + of_owner.len() as u64 >= max {
            let detail =
                format!("this owner has {max} tasks that are not final, which is the maximum (max_tasks_per_owner)");
            if of_owner.is_empty() {
                permits.remove(owner);
            }
            return Err(Problem::new(Refusal::TooManyTasks, detail));
        }
        of_owner.insert(task, revision);
        Ok(Some(OpenTaskPermit { owner: owner.to_owned(), task, permits: self.permits.clone() }))
    }
}

/// How many tasks of the owner are not final, as the views show them.
fn open_tasks(views: &Views, owner: &str) -> u64 {
    let counts = views.counters(owner).counts;
    Status::ALL.into_iter().filter(|status| !status.is_final()).map(|status| counts[status as usize]).sum()
}

impl Drop for OpenTaskPermit {
    fn drop(&mut self) {
        let mut permits = self.permits.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_owner) = permits.get_mut(&self.owner) {
            of_owner.remove(&self.task);
            if of_owner.is_empty() {
                permits.remove(&self.owner);
            }
        }
    }
}
