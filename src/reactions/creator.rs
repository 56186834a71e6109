//! Creates the tasks of the due runs of schedules.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::RwLock;
use uuid::Uuid;

use super::agenda::DueRuns;
use crate::projection::reader::ViewsReader;
use crate::repeats::Repeats;
use crate::store::{EventStore, LogEvent, Meta, StreamName, Via, now};
use crate::streams::create::{Accepted, UniqueKeys, create_unless_key_held};
use crate::streams::messages::ExecuteError;
use crate::streams::registry::Registry;
use crate::task::calendar::task_id;
use crate::task::event::Created;
use crate::task::schedule::ScheduleEvent;
use crate::task::{Rejection, Revision, Timestamp};

/// The creations that have failed and are tried again.
static FAILURES: Repeats = Repeats::new();

/// A lock that clones share. Each creation of a schedule's task holds it for reading. [`Self::wait_until_idle`] takes it for
/// writing.
#[derive(Clone, Debug, Default)]
pub struct CreationLock(Arc<RwLock<()>>);

impl CreationLock {
    /// Waits until every creation that is under way has ended. If the views showed the removal of a schedule before this call,
    /// the schedule creates no tasks after it, because each creation checks the views when it begins.
    pub async fn wait_until_idle(&self) {
        drop(self.0.write().await);
    }
}

/// Creates the tasks of due runs.
#[derive(Clone)]
pub(super) struct Creator {
    pub(super) registry: Registry,
    pub(super) reader: ViewsReader,
    pub(super) unique_keys: UniqueKeys,
    pub(super) creation_lock: CreationLock,
    /// The log, on a cluster. None if this server does not share its log.
    pub(super) shared_log: Option<EventStore>,
}

/// The creation of tasks has failed, because the log could not be read or written. A later try may succeed.
pub(super) struct CreationFailed {
    /// The last run that has its task or was left out; `None` if the first run failed.
    pub(super) handled: Option<Timestamp>,
}

impl Creator {
    /// Creates a task for each run, the oldest first. Ends at the first transient failure: a later try may
    /// succeed.
    pub(super) async fn create_all(&self, runs: &DueRuns) -> Result<(), CreationFailed> {
        let mut handled = None;
        for nominal in &runs.times {
            if let Err(error) = self.create_one(runs.schedule, *nominal).await {
                if let Some(times) = FAILURES.occurred(Instant::now()) {
                    tracing::warn!(schedule = %runs.schedule, %error, times, "a task could not be created; trying again");
                }
                return Err(CreationFailed { handled });
            }
            handled = Some(*nominal);
        }
        Ok(())
    }

    /// Creates the task of one run. A permanent error is logged, and the run is left out.
    async fn create_one(&self, schedule: Uuid, nominal: Timestamp) -> Result<(), ExecuteError> {
        let id = task_id(schedule, nominal);
        let guard = self.creation_lock.0.read().await;
        let Some((created, meta)) = self.request_of(schedule) else { return Ok(()) };
        if self.is_removed(schedule).await? {
            return Ok(());
        }
        let result =
            create_unless_key_held(&self.registry, &self.reader, &self.unique_keys, created, id, now(), meta).await;
        drop(guard);
        match result {
            // If the task has a unique key, the creation of the next run must see in the views that this task has it.
            Ok(Accepted::New(_, receipt)) => _ = self.reader.wait_for_revision(id, receipt.revision).await,
            Ok(Accepted::KeyHeld(holder)) => {
                tracing::info!(%schedule, %nominal, %holder, "a run is left out: another task has its unique key");
            }
            Ok(Accepted::Repeated(_)) | Err(ExecuteError::Rejected(Rejection::AlreadyExists)) => {}
            Err(error) if is_transient(&error) => return Err(error),
            Err(why) => tracing::error!(%schedule, %nominal, %why, "a schedule's task can't be created"),
        }
        Ok(())
    }

    /// Reads from the log whether the schedule was removed. If this process was suspended, its views may not show yet that
    /// another server has removed it.
    async fn is_removed(&self, schedule: Uuid) -> Result<bool, ExecuteError> {
        let Some(log) = &self.shared_log else { return Ok(false) };
        let past = log.read_for_decision(&StreamName::schedule(schedule), Revision(0)).await?;
        Ok(past.iter().any(|event| matches!(event.event, LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(_)))))
    }

    /// The request for a task of this schedule, and the metadata of its `Created`; `None` if the schedule was removed.
    fn request_of(&self, schedule: Uuid) -> Option<(Created, Meta)> {
        let views = self.reader.views();
        let active = views.schedules().get(schedule)?;
        let meta = Meta {
            actor: "system".to_owned(),
            via: Via::Server,
            correlation_id: active.correlation_id,
            causation_id: Some(active.event_id),
            request_id: None,
        };
        Some((active.created.task.task(schedule), meta))
    }
}

/// Whether the same creation may succeed later. If the log accepts no more writes in this process, it may succeed in the next
/// process.
const fn is_transient(error: &ExecuteError) -> bool {
    match error {
        ExecuteError::Rejected(_) => false,
        ExecuteError::Read(error) => error.is_transient(),
        ExecuteError::Append(_) | ExecuteError::Busy(_) => true,
    }
}
