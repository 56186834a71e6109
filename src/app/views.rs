//! The log and the views of an instance: how they are opened, and the comparison of the log with the views.

use tokio::task::JoinHandle;

use super::{Options, StartError};
use crate::projection::reader::{ViewsReader, ViewsWriter, split_views};
use crate::projection::replay::views_at;
use crate::projection::snapshots::Snapshots;
use crate::store::{EventStore, OpenError, ReadError, StreamName, StreamSubject, Truncation};
use crate::task::Revision;
use crate::views::Views;

/// Opens the log and rebuilds the views from it and its snapshots. On a cluster the views are empty, because the end of its log is
/// not known yet.
pub(super) async fn open_log_and_views(
    options: &Options,
) -> Result<(EventStore, Views, Option<Snapshots>), StartError> {
    let store = open_log(options)?;
    let snapshots = options.data.as_deref().filter(|_| !store.is_shared()).map(|data| Snapshots::new(data, &store));
    let views = views_at(&store, snapshots.as_ref(), store.head().position).await;
    let views = views.map_err(|error| match (error, &options.data) {
        (ReadError::Damaged(what), Some(data)) => StartError::Damaged { what, data: data.clone() },
        (error, _) => error.into(),
    })?;
    tracing::info!(position = %views.position(), "the views are rebuilt");
    Ok((store, views, snapshots))
}

fn open_log(options: &Options) -> Result<EventStore, OpenError> {
    #[cfg(feature = "eventstore")]
    if let Some(url) = &options.store {
        tracing::info!(%url, "the log is in a cluster");
        return EventStore::connect(url.clone());
    }
    let truncation = if options.accept_truncation { Truncation::Accept } else { Truncation::Refuse };
    options.data.as_deref().map_or_else(|| Ok(EventStore::memory()), |data| EventStore::open_with(data, truncation))
}

/// Splits the views into write access and read access. From then on, the log compares each stream of a task that it reads with the
/// views: they show events that the log has had, so a stream that is shorter than they show has lost its end.
pub(super) fn split_and_compare(views: Views, store: &EventStore) -> (ViewsWriter, ViewsReader) {
    let (writer, reader) = split_views(views);
    let known = reader.clone();
    store.compare_with(move |stream| revision_in_views(&known, stream));
    (writer, reader)
}

/// The revision of the last event of this stream that the views show; `None` if the stream is not that of a task.
fn revision_in_views(reader: &ViewsReader, stream: &StreamName) -> Option<Revision> {
    match stream.subject()? {
        StreamSubject::Task(task) => reader.views().get(task).map(|row| row.revision()),
        StreamSubject::Bell(_)
        | StreamSubject::Queue(_)
        | StreamSubject::Schedule(_)
        | StreamSubject::Token(_)
        | StreamSubject::Session(_) => None,
    }
}

/// Writes snapshots of the views for as long as the process runs. First it checks the events that a start from a snapshot has not
/// read.
pub(super) fn write_snapshots(snapshots: Snapshots, log: &EventStore, reader: &ViewsReader) -> JoinHandle<()> {
    let (log, reader) = (log.clone(), reader.clone());
    actix_rt::spawn(async move {
        snapshots.check_log(&log).await;
        snapshots.follow(log, reader).await;
    })
}
