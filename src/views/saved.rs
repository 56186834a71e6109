//! The views as bytes, for a file, and back. What can be computed from the rows isn't saved: the counters and the indexes.
//!
//! The bytes are in parts: first everything but the rows, then one part for each block of rows. They have no version and no
//! checksum of their own; the file has both, and is read only by the program that has written it.

use std::sync::Arc;

use super::blocks::RowBlocks;
use super::bytes::{Reader, Writer};
use super::counters::CounterKey;
use super::{Block, Views};
use crate::task::{Position, Status, Timestamp};

/// The views at one position, ready to be written. It shares the rows with the views, so it takes little memory, and the
/// views may change meanwhile.
#[derive(Debug)]
pub struct Capture {
    position: Position,
    latest: Option<Timestamp>,
    /// Everything but the rows.
    rest: Vec<u8>,
    rows: RowBlocks,
}

/// Reads the parts that a [`Capture`] has written.
#[derive(Debug)]
pub struct Restorer {
    views: Views,
    /// All counter keys, in the order of their indexes.
    keys: Vec<Arc<CounterKey>>,
    blocks: usize,
    ends: Vec<RunEnd>,
}

/// The end of the run of a task that is final.
#[derive(Debug)]
struct RunEnd {
    position: Position,
    time: Timestamp,
    status: Status,
    key: usize,
}

impl Views {
    /// Captures the views. `None` if they can't be written, which would be a defect.
    ///
    /// This reads all idempotency keys, so it takes about 0.1 µs for each. The rows are shared and not read.
    #[must_use]
    pub fn capture(&self) -> Option<Capture> {
        let mut writer = Writer::default();
        writer.put(self.position.0);
        writer.put_option(self.time, Writer::put_time);
        writer.put_option(self.latest, Writer::put_time);
        writer.put(self.rows.blocks().len() as u64);
        self.owners.put(&mut writer);
        let keys = self.counters.keys();
        writer.put(keys.len() as u64);
        for key in keys {
            writer.put(key.owner_index as u64);
            writer.put_text(&key.kind);
            writer.put_text(&key.queue);
        }
        self.put_keys_of_clients(&mut writer);
        self.paused_queues.put(&mut writer);
        self.schedules.put(&mut writer)?;
        self.credentials.put(&mut writer)?;
        Some(Capture { position: self.position, latest: self.latest, rest: writer.0, rows: self.rows.clone() })
    }

    /// The idempotency keys, and the unique keys.
    fn put_keys_of_clients(&self, writer: &mut Writer) {
        writer.put(self.idempotency_keys.len() as u64);
        for (caller, keys) in &self.idempotency_keys {
            writer.put_text(caller);
            writer.put(keys.len() as u64);
            for (key, (task, body_hash)) in keys {
                writer.put_text(key);
                writer.put_uuid(task.uuid());
                writer.put_text(body_hash);
            }
        }
        writer.put(self.unique_keys.len() as u64);
        for (owner, keys) in &self.unique_keys {
            writer.put(*owner as u64);
            writer.put(keys.len() as u64);
            for (key, task) in keys {
                writer.put_text(key);
                writer.put_uuid(task.uuid());
            }
        }
    }

    fn take_keys_of_clients(&mut self, reader: &mut Reader) -> Option<()> {
        let idempotency_keys = reader.take_list(|reader| {
            let caller = reader.take_text()?.into();
            let keys = reader.take_list(|reader| {
                Some((reader.take_text()?.into(), (reader.take_task_id()?, reader.take_text()?.into())))
            })?;
            Some((caller, keys.into_iter().collect()))
        })?;
        let unique_keys = reader.take_list(|reader| {
            let owner = reader.take_len()?;
            let keys = reader.take_list(|reader| Some((reader.take_text()?.into(), reader.take_task_id()?)))?;
            Some((owner, keys.into_iter().collect()))
        })?;
        self.idempotency_keys = idempotency_keys.into_iter().collect();
        self.unique_keys = unique_keys.into_iter().collect();
        Some(())
    }
}

impl Capture {
    /// Position of the last event.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.position
    }

    /// The latest time of an event.
    #[must_use]
    pub const fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// The parts, in order. A part is `None` if it can't be written, which would be a defect.
    pub fn parts(&self) -> impl Iterator<Item = Option<Vec<u8>>> {
        let blocks = self.rows.blocks().map(|block| {
            let mut writer = Writer::default();
            block.put(&mut writer).map(|()| writer.0)
        });
        std::iter::once_with(|| Some(self.rest.clone())).chain(blocks)
    }
}

impl Restorer {
    /// Reads the first part. `None` if it isn't valid.
    #[must_use]
    pub fn new(first: &[u8]) -> Option<Self> {
        let mut reader = Reader(first);
        let mut views = Views {
            position: Position(reader.take()?),
            time: reader.take_option(Reader::take_time)?,
            latest: reader.take_option(Reader::take_time)?,
            ..Views::default()
        };
        let blocks = reader.take_len()?;
        views.owners.take(&mut reader)?;
        let mut keys = Vec::new();
        for _ in 0..reader.take()? {
            let owner_index = reader.take_len()?;
            let kind_and_queue = (reader.take_text()?, reader.take_text()?);
            let owner = views.owners.list.get_mut(owner_index)?;
            let key = views.counters.add_key((owner_index, &owner.name), kind_and_queue, &mut views.names)?;
            owner.counter_key_indexes.push(key.index);
            keys.push(key);
        }
        views.take_keys_of_clients(&mut reader)?;
        views.paused_queues.take(&mut reader)?;
        views.schedules.take(&mut reader)?;
        views.credentials.take(&mut reader)?;
        reader.0.is_empty().then_some(Self { views, keys, blocks, ends: Vec::new() })
    }

    /// Reads the part of the next block. `None` if it isn't valid.
    pub fn add_block(&mut self, part: &[u8]) -> Option<()> {
        let mut reader = Reader(part);
        let block = Block::take(&mut reader, &self.keys, &mut self.views.names)?;
        self.blocks = self.blocks.checked_sub(1).filter(|_| reader.0.is_empty())?;
        self.add_to_indexes(&block)?;
        self.views.rows.push_block(block)
    }

    fn add_to_indexes(&mut self, block: &Block) -> Option<()> {
        let views = &mut self.views;
        for (row, slot) in block.iter().zip(views.rows.len()..) {
            let row = row.indexed_fields()?;
            let slot = u32::try_from(slot).ok()?;
            views.owners.list.get_mut(row.key.owner_index)?.count(None, row.status);
            views.counters.add_task(row.key, slot, row.status);
            views.all_tasks.push(slot, row.status);
            views.slots.insert(row.id, slot);
            if let Some(parent) = row.parent {
                views.children.entry(parent).or_default().push(row.id);
            }
            if let Some((position, time)) = row.end {
                self.ends.push(RunEnd { position, time, status: row.status, key: row.key.index });
            }
        }
        Some(())
    }

    /// The views, when all parts were read. `None` if a block is missing.
    #[must_use]
    pub fn finish(self) -> Option<Views> {
        let Self { mut views, keys, blocks, mut ends } = self;
        // The lists of ends are in the order of the log.
        ends.sort_unstable_by_key(|end| end.position);
        for RunEnd { position, time, status, key } in ends {
            let key = keys.get(key)?;
            views.ends.add(status, position, time);
            views.counters.ends_mut(key)?.add(status, position, time);
            views.owners.list.get_mut(key.owner_index)?.add_unseen(status, position);
        }
        (blocks == 0).then_some(views)
    }
}
