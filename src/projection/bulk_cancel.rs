//! The kind of a bulk cancel, and the rule for which tasks it cancels.

use std::borrow::Cow;

use crate::views::{Filter, Row, Snapshot};

/// The kind of the task that cancels all tasks that match a filter. A bulk cancel never cancels another bulk cancel.
pub const BULK_CANCEL: &str = "taskbell.bulk-cancel";

/// The tasks that a bulk cancel with this filter cancels, in the order of their creation: the tasks that match, are not final
/// and are not bulk cancels.
pub fn bulk_cancel_targets<'a>(snapshot: &'a Snapshot, filter: &'a Filter) -> impl Iterator<Item = Cow<'a, Row>> {
    snapshot.matching(filter).filter(|row| !row.status().is_final() && row.kind() != BULK_CANCEL)
}
