//! Finds a page of a list whose entries are sorted by the position at which they were created.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use super::cursor::{Cursor, InvalidCursor, Order, Side};
use super::page::PageRequest;
use crate::task::Position;

/// The fingerprint in the cursors of a list that has no filter.
const NO_FILTER: u64 = 0;

/// One page of keys with their values.
pub(super) struct KeyPage<T> {
    pub(super) items: Vec<(Position, T)>,
    pub(super) next: Option<Cursor>,
    pub(super) prev: Option<Cursor>,
}

/// Finds the page of the request. A limit of 0 counts as 1.
pub(super) fn page_of_keys<T: Copy>(
    list: &BTreeMap<Position, T>,
    request: &PageRequest,
) -> Result<KeyPage<T>, InvalidCursor> {
    let PageRequest { order, limit, cursor } = *request;
    if cursor.is_some_and(|cursor| cursor.order != order || cursor.fingerprint != NO_FILTER) {
        return Err(InvalidCursor);
    }
    let is_backward = cursor.is_some_and(|cursor| cursor.side == Side::Before);
    let is_ascending = (order == Order::Asc) != is_backward;
    let key = cursor.map(|cursor| cursor.key);
    let range = match (key, is_ascending) {
        (None, _) => (Unbounded, Unbounded),
        (Some(key), true) => (Excluded(key), Unbounded),
        (Some(key), false) => (Unbounded, Excluded(key)),
    };
    let opposite = key.map(|key| if is_ascending { (Unbounded, Included(key)) } else { (Included(key), Unbounded) });
    let (page, wanted) = (list.range(range), limit.max(1).saturating_add(1));
    let entry = |(position, value): (&Position, &T)| (*position, *value);
    let mut items: Vec<_> = if is_ascending {
        page.take(wanted).map(entry).collect()
    } else {
        page.rev().take(wanted).map(entry).collect()
    };
    let has_more = items.len() == wanted;
    items.truncate(wanted - 1);
    let has_opposite = opposite.is_some_and(|opposite| list.range(opposite).next().is_some());
    if is_backward {
        items.reverse();
    }
    let (has_next, has_prev) = if is_backward { (has_opposite, has_more) } else { (has_more, has_opposite) };
    let cursor_at = |side, item: Option<&(Position, T)>| {
        let key = item.map(|(position, _)| *position).or(key)?;
        Some(Cursor { order, side, key, fingerprint: NO_FILTER })
    };
    let next = has_next.then(|| cursor_at(Side::After, items.last())).flatten();
    let prev = has_prev.then(|| cursor_at(Side::Before, items.first())).flatten();
    Ok(KeyPage { items, next, prev })
}
