//! The views of an instance, and the comparison of the log with them.

use crate::projection::reader::{ViewsReader, ViewsWriter, split_views};
use crate::store::{EventStore, StreamName, StreamSubject};
use crate::task::Revision;
use crate::views::Views;

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
