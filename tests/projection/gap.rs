//! A fixture with a log and views whose events reach no subscriber. An actor in these tests can learn about tasks only from
//! the views.

use std::sync::Arc;

use taskbell::projection::reader::{ViewsReader, ViewsWriter, split_views};
use taskbell::store::{EventStore, now};
use taskbell::streams::ExecuteOnStream;
use taskbell::streams::registry::Registry;
use taskbell::task::queue::{Queue, QueueCommand};
use taskbell::task::{Command, TaskId};
use taskbell::views::Views;

use crate::streams::{command, in_time, meta, new_task, registry};
use crate::views::history::{Created, plain};

/// A log, and views to which the test applies the new events.
pub(super) struct GapFixture {
    pub(super) store: EventStore,
    pub(super) registry: Registry,
    pub(super) write: ViewsWriter,
    pub(super) read: ViewsReader,
}

impl GapFixture {
    pub(super) fn new() -> Self {
        let store = EventStore::memory();
        let (write, read) = split_views(Views::default());
        Self { registry: registry(&store, 1), store, write, read }
    }

    /// Executes the command. Its events are in the log, but not yet in the views.
    pub(super) async fn execute(&self, task: TaskId, step: Command) {
        in_time(self.registry.execute(command(task, 2, step))).await.unwrap();
    }

    /// The same for a command on the queue `default`.
    pub(super) async fn execute_on_queue(&self, command: QueueCommand) {
        let on = ExecuteOnStream::<Queue> { key: "default".to_owned(), command, at: now(), meta: meta() };
        in_time(self.registry.execute_on_stream(on)).await.unwrap();
    }

    /// Applies all events of the log to the views.
    pub(super) async fn apply_to_views(&self) {
        let events = self.store.read_all(self.read.position(), usize::MAX).await.unwrap();
        let (changes, position) = {
            let mut views = self.write.write();
            let changes: Vec<_> = events.iter().filter_map(|recorded| views.apply(recorded).task).collect();
            (changes, views.position())
        };
        self.write.show(position, &changes);
    }

    /// Creates this task and applies it to the views.
    pub(super) async fn create(&self, created: Created) -> TaskId {
        let task = new_task();
        self.execute(task, Command::Create(Arc::new(created))).await;
        self.apply_to_views().await;
        task
    }

    /// Creates a task and applies it to the views.
    pub(super) async fn task(&self) -> TaskId {
        self.create(plain("ann", "a task")).await
    }

    /// Creates a task in this queue and applies it to the views.
    pub(super) async fn task_in(&self, queue: &str) -> TaskId {
        self.create(Created { queue: queue.to_owned(), ..plain("ann", "a task") }).await
    }

    /// Creates a child of this task and applies it to the views.
    pub(super) async fn child_of(&self, parent: TaskId) -> TaskId {
        self.create(Created { parent: Some(parent), ..plain("ann", "a child") }).await
    }
}
