//! A cancel of a parent asks its children too, each in its own stream; theirs asks theirs.
//!
//! It holds no truth. Who is to be asked follows from the log: the children that are not final, and whose present run was
//! there when the parent was asked, or that were created after it. A child that somebody let run once more since then is
//! left alone. What was left undone by a process that ended, the next one finds in its views: the parents whose present
//! run was asked, so a parent that was let run once more in that very moment asks no more children.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use futures_util::future::join_all;

use crate::dispatch::policies::KindPolicies;
use crate::projection::projector::Committed;
use crate::projection::projector::Stop;
use crate::projection::reader::ViewsReader;
use crate::store::{EventStore, LogEvent, Meta, ReadError, Recorded, StreamName, StreamOf, now};
use crate::streams::messages::{Execute, ExecuteError};
use crate::streams::registry::Registry;
use crate::task::{Command, Event, Position, Revision, TaskId};
use crate::views::{Row, Views};

/// Children that are asked side by side, before other messages and other parents get their turn.
const SIDE_BY_SIDE: usize = 100;
/// After trouble with the log it is tried again so much later.
const PAUSE: Duration = Duration::from_secs(1);

/// A parent that was asked, and which of its children have not been looked at since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Job {
    parent: TaskId,
    /// Where in the log it was asked.
    requested: Position,
    left: Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// All from this one on, in the order in which they were created.
    From(usize),
    /// This one: it came later.
    One(TaskId),
}

impl Job {
    /// Of a parent whose present run somebody asked to stop.
    fn of(parent: &Row, left: Left) -> Option<Self> {
        Some(Self { parent: parent.id(), requested: parent.cancel()?.requested, left })
    }

    /// The next of its children, at most so many.
    fn next(&self, views: &Views, room: usize) -> Vec<TaskId> {
        match self.left {
            Left::From(from) => views.children(self.parent).iter().skip(from).take(room).copied().collect(),
            Left::One(child) => vec![child],
        }
    }

    /// What is left when so many are done.
    fn after(self, done: usize, views: &Views) -> Option<Self> {
        match self.left {
            Left::From(from) if from + done < views.children(self.parent).len() => {
                Some(Self { left: Left::From(from + done), ..self })
            }
            Left::From(_) | Left::One(_) => None,
        }
    }
}

/// The actor; see the module.
pub struct Cascade {
    hands: Hands,
    jobs: VecDeque<Job>,
    /// Children are being asked, or a pause is not over.
    busy: bool,
}

/// What it asks with.
#[derive(Clone)]
struct Hands {
    registry: Registry,
    read: ViewsReader,
    store: EventStore,
    kinds: Arc<KindPolicies>,
}

/// It could not be done now; later it may. Why.
struct Trouble(String);

impl Cascade {
    /// Begins with what a former process left undone.
    #[must_use]
    pub fn new(registry: Registry, read: ViewsReader, store: EventStore, kinds: Arc<KindPolicies>) -> Self {
        Self { hands: Hands { registry, read, store, kinds }, jobs: VecDeque::new(), busy: false }
    }

    /// Every parent that was asked and has a child that was not.
    fn catch_up(&mut self) {
        let views = self.hands.read.views();
        let is_open = |child: &TaskId| views.get(*child).is_some_and(is_open);
        let asked = views.rows().filter(|row| row.cancel().is_some());
        let parents = asked.filter(|row| views.children(row.id()).iter().any(is_open));
        self.jobs.extend(parents.filter_map(|row| Job::of(row, Left::From(0))));
        drop(views);
        if !self.jobs.is_empty() {
            tracing::info!(
                parents = self.jobs.len(),
                "children of cancelled tasks are asked to stop, as far as they are not yet"
            );
        }
    }

    fn hear(&mut self, recorded: &Recorded) {
        let (Some(StreamOf::Task(id)), LogEvent::Task(event)) = (recorded.stream.of(), &recorded.event) else { return };
        let job = match event {
            Event::CancelRequested(_) => {
                let job = Job { parent: id, requested: recorded.position, left: Left::From(0) };
                Some(job).filter(|_| !self.hands.read.views().children(id).is_empty())
            }
            Event::Created(created) => created.parent.and_then(|parent| {
                let views = self.hands.read.views();
                views.get(parent).and_then(|parent| Job::of(parent, Left::One(id)))
            }),
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Completed(_)
            | Event::Retried(_) => None,
        };
        self.jobs.extend(job);
    }

    /// Asks some children of the parents whose turn it is; a parent of many goes to the back of the line in between.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if self.busy || self.jobs.is_empty() {
            return;
        }
        let mut turn = Vec::new();
        let mut room = SIDE_BY_SIDE;
        let views = self.hands.read.views();
        while room > 0
            && let Some(job) = self.jobs.pop_front()
        {
            let children = job.next(&views, room);
            room = room.saturating_sub(children.len().max(1));
            turn.push((job, children));
        }
        drop(views);
        self.busy = true;
        let hands = self.hands.clone();
        let asked = async move {
            join_all(turn.into_iter().map(|(job, children)| {
                let hands = hands.clone();
                async move { (job, children.len(), hands.ask_all(job, children).await) }
            }))
            .await
        };
        ctx.spawn(asked.into_actor(self).map(Self::worked));
    }

    fn worked(done: Vec<(Job, usize, Result<(), Trouble>)>, this: &mut Self, ctx: &mut Context<Self>) {
        let mut trouble = None;
        let views = this.hands.read.views();
        for (job, children, answer) in done {
            this.jobs.extend(match answer {
                Ok(()) => job.after(children, &views),
                // Whoever was asked already is not asked again: it is looked at anew.
                Err(Trouble(why)) => {
                    trouble = Some(why);
                    Some(job)
                }
            });
        }
        drop(views);
        let resume = |this: &mut Self, ctx: &mut Context<Self>| {
            this.busy = false;
            this.work(ctx);
        };
        if let Some(why) = trouble {
            tracing::warn!(%why, "some children could not be asked to stop; trying again");
            ctx.run_later(PAUSE, resume);
        } else {
            resume(this, ctx);
        }
    }
}

impl Hands {
    async fn ask_all(&self, job: Job, children: Vec<TaskId>) -> Result<(), Trouble> {
        let Some(request) = self.request(job).await? else { return Ok(()) };
        let answers = join_all(children.into_iter().map(|child| self.ask(job, &request, child))).await;
        answers.into_iter().collect()
    }

    /// The event by which the parent was asked: who did, why, and what it is part of.
    async fn request(&self, job: Job) -> Result<Option<Arc<Recorded>>, Trouble> {
        let before = Position(job.requested.0.saturating_sub(1));
        match self.store.read_all(before, 1).await {
            Ok(events) => Ok(events.into_iter().next()),
            Err(error) => unreadable(job.parent, &error).map(|()| None),
        }
    }

    async fn ask(&self, job: Job, request: &Recorded, child: TaskId) -> Result<(), Trouble> {
        let LogEvent::Task(Event::CancelRequested(asked)) = &request.event else { return Ok(()) };
        let shown = |row: &Row| (row.kind().to_owned(), is_surely_meant(row, job));
        let found = self.read.views().get(child).filter(|row| is_open(row)).map(shown);
        let Some((kind, surely)) = found else { return Ok(()) };
        if !surely && !self.is_meant(child, job).await? {
            return Ok(());
        }
        let meta = Meta { causation_id: Some(request.id), ..request.meta.clone() };
        let command = Command::RequestCancel { reason: asked.reason.clone(), policy: self.kinds.cancel(&kind) };
        match self.registry.execute(Execute { task: child, command, at: now(), meta }).await {
            Ok(_) | Err(ExecuteError::Rejected(_)) => Ok(()),
            Err(ExecuteError::Read(error)) => unreadable(child, &error),
            Err(error @ (ExecuteError::Append(_) | ExecuteError::Busy(_))) => Err(Trouble(error.to_string())),
        }
    }

    /// Whether the child's own history says that the request means its present run.
    async fn is_meant(&self, child: TaskId, job: Job) -> Result<bool, Trouble> {
        let events = match self.store.read_stream(&StreamName::task(child), Revision(0)).await {
            Ok(events) => events,
            Err(error) => return unreadable(child, &error).map(|()| false),
        };
        let retried = |recorded: &&Arc<Recorded>| matches!(recorded.event, LogEvent::Task(Event::Retried(_)));
        Ok(events.iter().rfind(retried).is_none_or(|retried| retried.position < job.requested))
    }
}

/// Nobody has asked its present run to stop.
fn is_open(row: &Row) -> bool {
    !row.status().is_final() && row.cancel().is_none()
}

/// Whether the child's row alone shows that the request means its present run: nothing has happened to it since the
/// request, or nothing but its creation ever. Else it may have been let run once more.
fn is_surely_meant(row: &Row, job: Job) -> bool {
    row.position() < job.requested || row.revision() == Revision(0)
}

/// What is damaged is so for good: the others are not kept waiting for it.
fn unreadable(task: TaskId, error: &ReadError) -> Result<(), Trouble> {
    match error {
        ReadError::Unavailable(_) => Err(Trouble(error.to_string())),
        ReadError::Damaged(_) | ReadError::Unknown { .. } => {
            tracing::error!(%task, %error, "a history can't be read, so its children or itself are not asked to stop");
            Ok(())
        }
    }
}

impl Actor for Cascade {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.catch_up();
        self.work(ctx);
    }
}

impl Handler<Committed> for Cascade {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Context<Self>) {
        for recorded in committed.events.iter() {
            self.hear(recorded);
        }
        self.work(ctx);
    }
}

impl Handler<Stop> for Cascade {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
