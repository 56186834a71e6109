//! Packed rows as bytes, for a file. The bytes are the columns, the records and the texts as they are in memory.

use std::sync::Arc;

use super::columns::Numbers;
use super::record::{self, Flags};
use super::words::Words;
use super::{IndexSet, PackedRow, PackedRows};
use crate::task::{Status, TaskId};
use crate::views::bytes::{Reader, Writer};
use crate::views::counters::{CounterKey, Interner};

impl PackedRows {
    pub(in crate::views) fn put(&self, writer: &mut Writer) {
        self.indexes.put(writer);
        writer.put(self.ids.len() as u64);
        self.ids.iter().for_each(|id| writer.put_uuid(id.uuid()));
        self.statuses.iter().for_each(|status| writer.put(*status as u64));
        self.keys.iter().for_each(|key| writer.put_bytes(&key.to_le_bytes()));
        writer.put(self.key_table.len() as u64);
        self.key_table.iter().for_each(|key| writer.put(key.index as u64));
        writer.put(self.workers.len() as u64);
        self.workers.iter().for_each(|worker| writer.put_text(worker));
        for column in [&self.created_positions, &self.ended_positions, &self.created_at, &self.finished_at] {
            column.put(writer);
        }
        for (record, text) in &self.starts {
            writer.put_bytes(&record.to_le_bytes());
            writer.put_bytes(&text.to_le_bytes());
        }
        writer.put(self.records.len() as u64);
        writer.put_bytes(&self.records);
        writer.put_text(&self.texts);
        self.words.put(writer);
    }

    /// `keys` are all counter keys, in the order of their indexes.
    pub(in crate::views) fn take(reader: &mut Reader, keys: &[Arc<CounterKey>], names: &mut Interner) -> Option<Self> {
        let indexes = IndexSet::take(reader)?;
        let count = reader.take_len().filter(|count| *count == indexes.len())?;
        let ids: Option<Box<[TaskId]>> = (0..count).map(|_| reader.take_task_id()).collect();
        let statuses: Option<Box<[Status]>> =
            (0..count).map(|_| Status::ALL.get(reader.take_len()?).copied()).collect();
        let key_places: Option<Box<[u16]>> =
            (0..count).map(|_| reader.take_bytes(2)?.try_into().ok().map(u16::from_le_bytes)).collect();
        let key_table = reader.take_list(|reader| keys.get(reader.take_len()?).cloned())?;
        let workers = reader.take_list(|reader| Some(names.intern(reader.take_text()?)))?;
        let mut column = || Numbers::take(reader, count);
        let (created_positions, ended_positions) = (column()?, column()?);
        let (created_at, finished_at) = (column()?, column()?);
        let mut number = || reader.take_bytes(4)?.try_into().ok().map(u32::from_le_bytes);
        let starts: Option<Box<[(u32, u32)]>> = (0..count).map(|_| Some((number()?, number()?))).collect();
        let records_length = reader.take_len()?;
        let records = reader.take_bytes(records_length)?.into();
        let (texts, words) = (reader.take_text()?.into(), Words::take(reader)?);
        Some(Self {
            indexes,
            ids: ids?,
            statuses: statuses?,
            keys: key_places?,
            key_table: key_table.into(),
            workers: workers.into(),
            created_positions,
            ended_positions,
            created_at,
            finished_at,
            starts: starts?,
            records,
            texts,
            words,
        })
    }
}

impl PackedRow<'_> {
    pub(in crate::views) fn parent(self) -> Option<TaskId> {
        let mut reader = self.record()?;
        let flags = Flags::take(&mut reader)?;
        if flags.has(Flags::OPTIONAL_FIELDS) { record::take_parent_and_labels(&mut reader)?.0 } else { None }
    }
}

impl Numbers {
    fn put(&self, writer: &mut Writer) {
        match self {
            Self::Absent => writer.put(0),
            Self::Near { base, distances } => {
                writer.put(1);
                writer.put_signed(*base);
                distances.iter().for_each(|distance| writer.put_bytes(&distance.to_le_bytes()));
            }
            Self::Far(numbers) => {
                writer.put(2);
                numbers.iter().for_each(|number| writer.put_bytes(&number.to_le_bytes()));
            }
        }
    }

    fn take(reader: &mut Reader, count: usize) -> Option<Self> {
        match reader.take()? {
            0 => Some(Self::Absent),
            1 => {
                let base = reader.take_signed()?;
                let mut distance = || reader.take_bytes(4)?.try_into().ok().map(u32::from_le_bytes);
                let distances: Option<Box<[u32]>> = (0..count).map(|_| distance()).collect();
                Some(Self::Near { base, distances: distances? })
            }
            2 => {
                let mut number = || reader.take_bytes(8)?.try_into().ok().map(i64::from_le_bytes);
                let numbers: Option<Box<[i64]>> = (0..count).map(|_| number()).collect();
                numbers.map(Self::Far)
            }
            _ => None,
        }
    }
}
