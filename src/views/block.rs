//! A block of rows. Most of its rows are packed; those that have changed lately are not.
//!
//! Before a row changes, it is unpacked. It stays unpacked until enough rows of the block can be packed together, see
//! [`Block::is_due`]. Then they become a new group of packed rows; the groups that exist stay as they are. A group from which
//! most rows were taken is dissolved, and its rows are packed again with the others.

use std::borrow::Cow;
use std::sync::Arc;

use super::filter::Filter;
use super::packed::words::WordSearch;
use super::packed::{IndexSet, PackedRow, PackedRows};
use super::row::Row;
use crate::task::{Position, Status, TaskId, Timestamp};

mod saved;

/// The number of rows in a block.
pub(super) const ROWS_PER_BLOCK: usize = 512;
/// So many final rows of a block are packed although others of the block are not final: nearly all.
const NEARLY_ALL_ROWS: usize = 448;
/// So many final rows of a cold block are packed although others of the block are not final.
const FINAL_ROWS_DUE: usize = 128;
/// Fewer rows than this wait until more of their block can be packed.
const FEWEST_ROWS: usize = 16;
/// How many groups a block has at most.
const GROUPS_MAX: usize = 8;

/// Packed rows of a block.
#[derive(Clone, Debug)]
struct Group {
    rows: Arc<PackedRows>,
    /// The indexes of the rows that were not unpacked since.
    valid: IndexSet,
}

impl Group {
    fn is_mostly_unpacked(&self) -> bool {
        self.valid.len() * 4 < self.rows.indexes().len()
    }
}

/// Rows whose slots follow each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    /// The rows that are not packed, in the order of their indexes.
    unpacked: Vec<Row>,
    groups: Vec<Group>,
    /// How many of the unpacked rows are final.
    final_unpacked: usize,
    /// How many rows of the block are not final.
    open: usize,
    /// The earliest and the latest end of a run of these tasks. Later retries don't narrow the span.
    finished: Option<(Timestamp, Timestamp)>,
}

impl Block {
    pub(super) fn len(&self) -> usize {
        self.unpacked.len() + self.groups.iter().map(|group| group.valid.len()).sum::<usize>()
    }

    #[cfg(feature = "testing")]
    pub(super) fn packed_rows(&self) -> usize {
        self.len() - self.unpacked.len()
    }

    /// The place of the row among the unpacked ones, or the place at which it would be.
    fn unpacked_place(&self, index: usize) -> Result<usize, usize> {
        // While nothing is packed, the index is the place.
        let is_there = self.unpacked.get(index).is_some_and(|row| usize::from(row.index_in_block) == index);
        if is_there { Ok(index) } else { self.unpacked.binary_search_by_key(&index, |row| row.index_in_block.into()) }
    }

    pub(super) fn get(&self, index: usize) -> Option<RowRef<'_>> {
        if let Some(group) = self.groups.iter().find(|group| group.valid.has(index)) {
            return Some(RowRef::Packed(group.rows.row(index), index));
        }
        self.unpacked.get(self.unpacked_place(index).ok()?).map(RowRef::Unpacked)
    }

    pub(super) fn last(&self) -> Option<RowRef<'_>> {
        self.get(self.len().checked_sub(1)?)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = RowRef<'_>> {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    /// The first index whose row is not `before`. The rows with that property come first.
    pub(super) fn partition_point(&self, before: impl Fn(RowRef) -> bool) -> usize {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.get(middle).is_some_and(&before) { from = middle + 1 } else { to = middle }
        }
        from
    }

    pub(super) fn push(&mut self, mut row: Row) {
        row.index_in_block = u16::try_from(self.len()).unwrap_or(u16::MAX);
        self.open += usize::from(!row.status().is_final());
        if self.unpacked.capacity() == 0 {
            self.unpacked.reserve_exact(ROWS_PER_BLOCK);
        }
        self.unpacked.push(row);
    }

    /// Changes the row. Returns it as it was before the change, and after.
    pub(super) fn change(&mut self, index: usize, is_cold: bool, change: impl FnOnce(&mut Row)) -> Option<(Row, Row)> {
        let place = self.unpack(index)?;
        let row = self.unpacked.get_mut(place)?;
        let before = row.clone();
        change(row);
        let after = row.clone();
        let (was_final, is_final) = (before.status().is_final(), after.status().is_final());
        self.final_unpacked = self.final_unpacked + usize::from(is_final) - usize::from(was_final);
        self.open = self.open + usize::from(was_final) - usize::from(is_final);
        if let Some(at) = after.finished_at() {
            self.finished = Some(self.finished.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
        }
        if is_final && self.is_due(is_cold) {
            self.pack();
        }
        Some((before, after))
    }

    /// The place of the row among the unpacked ones. Unpacks the row if it is packed.
    fn unpack(&mut self, index: usize) -> Option<usize> {
        let Some(at) = self.groups.iter().position(|group| group.valid.has(index)) else {
            return self.unpacked_place(index).ok();
        };
        let group = &mut self.groups[at];
        let row = group.rows.row(index).unpack(u16::try_from(index).ok()?)?;
        group.valid.remove(index);
        if group.valid.is_empty() {
            self.groups.remove(at);
        }
        self.final_unpacked += usize::from(row.status().is_final());
        let place = self.unpacked_place(index).unwrap_or_else(|place| place);
        self.unpacked.insert(place, row);
        Some(place)
    }

    /// Whether the rows that can be packed are to be packed now.
    fn is_due(&self, is_cold: bool) -> bool {
        if self.open > 0 {
            return self.final_unpacked >= if is_cold { FINAL_ROWS_DUE } else { NEARLY_ALL_ROWS };
        }
        (self.groups.is_empty() || self.final_unpacked >= FEWEST_ROWS) && self.len() == ROWS_PER_BLOCK
    }

    /// Packs all rows, except those whose attempt runs.
    pub(super) fn pack(&mut self) {
        let dissolve_all = self.groups.len() >= GROUPS_MAX;
        let dissolved = self.groups.extract_if(.., |group| dissolve_all || group.is_mostly_unpacked());
        for group in dissolved {
            let rows = group.valid.iter().filter_map(|index| group.rows.row(index).unpack(u16::try_from(index).ok()?));
            self.unpacked.extend(rows);
        }
        self.unpacked.sort_unstable_by_key(|row| row.index_in_block);
        let packable = |row: &&Row| !row.status().is_active();
        let rows = self.unpacked.iter().filter(packable).map(|row| (usize::from(row.index_in_block), row));
        if let Some(rows) = PackedRows::new(&rows) {
            self.unpacked.retain(|row| row.status().is_active());
            self.unpacked.shrink_to_fit();
            let valid = rows.indexes();
            if !valid.is_empty() {
                self.groups.push(Group { rows: Arc::new(rows), valid });
            }
        }
        self.final_unpacked = self.unpacked.iter().filter(|row| row.status().is_final()).count();
    }

    /// The indexes of the rows that may match this filter, whose words `search` contains. A packed row in the set has the words,
    /// unless the search [is inexact](WordSearch::is_inexact).
    pub(super) fn candidates(&self, filter: &Filter, search: &WordSearch, scratch: &mut String) -> IndexSet {
        if !self.may_have_finished(filter) {
            return IndexSet::default();
        }
        let unpacked: IndexSet = self.unpacked.iter().map(|row| usize::from(row.index_in_block)).collect();
        self.groups.iter().fold(unpacked, |found, group| {
            if filter.q.is_empty() {
                return found.or(group.valid);
            }
            found.or(group.rows.find_words(search, scratch).and(group.valid))
        })
    }

    /// Whether a task of the block may have ended in the time for which the filter asks.
    pub(super) fn may_have_finished(&self, filter: &Filter) -> bool {
        if filter.finished_after.is_none() && filter.finished_before.is_none() {
            return true;
        }
        self.finished.is_some_and(|(first, last)| {
            filter.finished_after.is_none_or(|after| last > after)
                && filter.finished_before.is_none_or(|before| first < before)
        })
    }

    /// Whether no row of the block has one of these statuses.
    pub(super) fn has_only_others(&self, statuses: &[Status]) -> bool {
        self.open == 0 && !statuses.is_empty() && statuses.iter().all(|status| !status.is_final())
    }
}

/// A row of a block, packed or not.
#[derive(Clone, Copy, Debug)]
pub(super) enum RowRef<'a> {
    Unpacked(&'a Row),
    /// The row, and its index in the block.
    Packed(PackedRow<'a>, usize),
}

impl<'a> RowRef<'a> {
    /// The row. The methods of this type return `None` only if a packed row can't be read, which would be a defect.
    pub(super) fn row(self) -> Option<Cow<'a, Row>> {
        match self {
            Self::Unpacked(row) => Some(Cow::Borrowed(row)),
            Self::Packed(row, index) => row.unpack(u16::try_from(index).ok()?).map(Cow::Owned),
        }
    }

    pub(super) fn id(self) -> Option<TaskId> {
        match self {
            Self::Unpacked(row) => Some(row.id()),
            Self::Packed(row, _) => row.id(),
        }
    }

    pub(super) fn status(self) -> Option<Status> {
        match self {
            Self::Unpacked(row) => Some(row.status()),
            Self::Packed(row, _) => row.status(),
        }
    }

    pub(super) fn created_position(self) -> Option<Position> {
        match self {
            Self::Unpacked(row) => Some(row.created_position()),
            Self::Packed(row, _) => row.created_position(),
        }
    }

    pub(super) fn ended_position(self) -> Option<Position> {
        match self {
            Self::Unpacked(row) => row.ended_position(),
            Self::Packed(row, _) => row.ended_position(),
        }
    }

    pub(super) fn has_cancel_request(self) -> bool {
        match self {
            Self::Unpacked(row) => row.cancel().is_some(),
            Self::Packed(row, _) => row.has_cancel_request() == Some(true),
        }
    }

    pub(super) fn created_at(self) -> Option<Timestamp> {
        match self {
            Self::Unpacked(row) => Some(row.created_at()),
            Self::Packed(row, _) => row.created_at(),
        }
    }

    /// Whether the row matches the filter.
    pub(super) fn matches(self, filter: &Filter) -> bool {
        match self {
            Self::Unpacked(row) => filter.matches(row),
            Self::Packed(row, _) => {
                matches_without_words(row, filter) == Some(true)
                    && (filter.q.is_empty() || self.row().is_some_and(|row| filter.matches_words(&row)))
            }
        }
    }

    /// Whether the row, which is one of the [`Block::candidates`] of an exact search, matches the filter.
    pub(super) fn matches_as_candidate(self, filter: &Filter) -> bool {
        match self {
            Self::Unpacked(row) => filter.matches(row),
            Self::Packed(row, _) => matches_without_words(row, filter) == Some(true),
        }
    }
}

/// Whether the row matches all of the filter except the words.
fn matches_without_words(row: PackedRow, filter: &Filter) -> Option<bool> {
    let key = row.key()?;
    Some(
        filter.matches_status(row.status()?)
            && filter.matches_owner(&key.owner)
            && filter.matches_kind_and_queue(&key.kind, &key.queue)
            && filter.matches_times(row.created_at()?, || row.finished_at())
            && (filter.parent.is_none() && filter.labels.is_empty()
                || row.has_parent_and_labels(filter.parent, &filter.labels)?),
    )
}
