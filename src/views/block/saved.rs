//! A block as bytes, for a file.

use std::sync::Arc;

use super::{Block, Group, ROWS_PER_BLOCK, RowRef};
use crate::task::{Position, Status, TaskId, Timestamp};
use crate::views::bytes::{Reader, Writer};
use crate::views::counters::{CounterKey, Interner};
use crate::views::packed::{IndexSet, PackedRows};
use crate::views::row::Row;

/// What the indexes of the views keep of a row.
pub(in crate::views) struct IndexedFields<'a> {
    pub(in crate::views) id: TaskId,
    pub(in crate::views) status: Status,
    pub(in crate::views) key: &'a Arc<CounterKey>,
    pub(in crate::views) parent: Option<TaskId>,
    /// The position and the time of the end of the run.
    pub(in crate::views) end: Option<(Position, Timestamp)>,
}

impl<'a> RowRef<'a> {
    pub(in crate::views) fn indexed_fields(self) -> Option<IndexedFields<'a>> {
        let (key, parent, finished_at) = match self {
            Self::Unpacked(row) => (row.counter_key(), row.parent(), row.finished_at()),
            Self::Packed(row, _) => (row.key()?, row.parent(), row.finished_at()),
        };
        let end = self.ended_position().zip(finished_at);
        Some(IndexedFields { id: self.id()?, status: self.status()?, key, parent, end })
    }
}

impl Block {
    /// Returns `None` if the rows are too large for packed rows.
    pub(in crate::views) fn put(&self, writer: &mut Writer) -> Option<()> {
        writer.put(self.groups.len() as u64);
        for group in &self.groups {
            group.valid.put(writer);
            group.rows.put(writer);
        }
        let rows = self.unpacked.iter().map(|row| (usize::from(row.index_in_block), row));
        PackedRows::new(&rows)?.put(writer);
        // Packed rows have no lease, because a row whose attempt runs stays unpacked in the views.
        for row in &self.unpacked {
            writer.put_optional_text(row.lease_hash());
        }
        writer.put_option(self.finished, |writer, (first, last)| {
            writer.put_time(first);
            writer.put_time(last);
        });
        Some(())
    }

    /// `keys` are all counter keys, in the order of their indexes.
    pub(in crate::views) fn take(reader: &mut Reader, keys: &[Arc<CounterKey>], names: &mut Interner) -> Option<Self> {
        let groups = reader.take_list(|reader| {
            let valid = IndexSet::take(reader)?;
            let rows = PackedRows::take(reader, keys, names)?;
            (valid.and(rows.indexes()) == valid).then(|| Group { rows: Arc::new(rows), valid })
        })?;
        let rows = PackedRows::take(reader, keys, names)?;
        let mut unpacked: Vec<Row> = Vec::new();
        for index in rows.indexes().iter() {
            let mut row = rows.row(index).unpack(u16::try_from(index).ok()?)?;
            row.lease_hash = reader.take_optional_text()?;
            unpacked.push(row);
        }
        let take_span = |reader: &mut Reader| Some((reader.take_time()?, reader.take_time()?));
        let finished = reader.take_option(take_span)?;
        let mut block = Self { unpacked, groups, final_unpacked: 0, open: 0, finished };
        block.final_unpacked = block.unpacked.iter().filter(|row| row.status().is_final()).count();
        block.open = block.iter().filter(|row| row.status().is_some_and(|status| !status.is_final())).count();
        block.has_each_index_once().then_some(block)
    }

    /// Whether the groups and the unpacked rows have the indexes from 0 on, each once.
    fn has_each_index_once(&self) -> bool {
        let unpacked: IndexSet = self.unpacked.iter().map(|row| usize::from(row.index_in_block)).collect();
        let all = self.groups.iter().fold(unpacked, |all, group| all.or(group.valid));
        let count = self.len();
        count <= ROWS_PER_BLOCK && all.len() == count && all.rank(count) == count
    }
}
