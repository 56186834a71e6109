//! A log and views of which a subscriber gets no event: whatever it knows, it has made from the views.

use std::sync::Arc;

use taskbell::projection::reader::{ViewsReader, ViewsWriter, split_views};
use taskbell::store::{EventStore, now};
use taskbell::streams::ExecuteOn;
use taskbell::streams::registry::Registry;
use taskbell::task::queue::{Queue, QueueCommand};
use taskbell::task::{Command, TaskId};
use taskbell::views::Views;

use crate::streams::{command, meta, new_task, registry, soon};
use crate::views::history::{Created, plain};

/// A log, and views that move when the test says so.
pub(super) struct Gap {
    pub(super) store: EventStore,
    pub(super) registry: Registry,
    pub(super) write: ViewsWriter,
    pub(super) read: ViewsReader,
}

impl Gap {
    pub(super) fn new() -> Self {
        let store = EventStore::memory();
        let (write, read) = split_views(Views::default());
        Self { registry: registry(&store, 1), store, write, read }
    }

    /// The command's events are in the log, and not yet in the views.
    pub(super) async fn executes(&self, task: TaskId, step: Command) {
        soon(self.registry.execute(command(task, 2, step))).await.unwrap();
    }

    /// The same for a command on the queue `default`.
    pub(super) async fn on_queue(&self, command: QueueCommand) {
        let on = ExecuteOn::<Queue> { key: "default".to_owned(), command, at: now(), meta: meta() };
        soon(self.registry.execute_on(on)).await.unwrap();
    }

    /// The views come to the end of the log.
    pub(super) async fn project(&self) {
        let events = self.store.read_all(self.read.position(), usize::MAX).await.unwrap();
        let position = {
            let mut views = self.write.write();
            for recorded in &events {
                views.apply(recorded);
            }
            views.position()
        };
        self.write.publish(position);
    }

    /// A new task like this one, in the views.
    pub(super) async fn create(&self, created: Created) -> TaskId {
        let task = new_task();
        self.executes(task, Command::Create(Arc::new(created))).await;
        self.project().await;
        task
    }

    /// A new task, in the views.
    pub(super) async fn task(&self) -> TaskId {
        self.create(plain("ann", "a task")).await
    }

    /// A new task of this queue, in the views.
    pub(super) async fn task_in(&self, queue: &str) -> TaskId {
        self.create(Created { queue: queue.to_owned(), ..plain("ann", "a task") }).await
    }

    /// A new child of this task, in the views.
    pub(super) async fn child_of(&self, parent: TaskId) -> TaskId {
        self.create(Created { parent: Some(parent), ..plain("ann", "a child") }).await
    }
}
