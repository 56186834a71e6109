//! Rows of one block in packed form. They never change; a row that changes is unpacked first.
//!
//! Memory: a row takes 41 bytes in columns, some 10 to 20 bytes in its record, and its texts. As a [`Row`], it takes 232 bytes,
//! its texts, and what the allocator adds.
//!
//! Reading order: `columns` (how numbers are stored), `record` (the fields that are in no column), `words` (search in the
//! texts), this file, `saved` (the same rows in a file).

// Where a field may be absent, the outer `None` says that it can't be read.
#![allow(clippy::option_option)]

mod columns;
mod record;
mod saved;
pub(super) mod words;

use std::sync::Arc;

pub(super) use columns::IndexSet;
use columns::Numbers;
use record::Flags;
use words::{WordSearch, Words};

use super::bytes::{Reader, Writer};
use super::counters::CounterKey;
use super::row::{FixedFields, OptionalTimestamp, Row, RunOutcome};
use crate::task::event::TaskError;
use crate::task::{Position, Revision, Status, TaskId, Timestamp};

/// Separates the texts of rows. It is no letter, so that the case of the letters beside it doesn't depend on it.
const SEPARATOR: char = '\0';

/// Packed rows of one block.
#[derive(Debug)]
pub(super) struct PackedRows {
    /// The indexes of the rows in their block, in the order of the columns.
    indexes: IndexSet,
    ids: Box<[TaskId]>,
    statuses: Box<[Status]>,
    /// For each row: the index of its key in `key_table`.
    keys: Box<[u16]>,
    key_table: Box<[Arc<CounterKey>]>,
    workers: Box<[Arc<str>]>,
    created_positions: Numbers,
    ended_positions: Numbers,
    created_at: Numbers,
    finished_at: Numbers,
    /// For each row: the start of its record in `records`, and of its texts in `texts`.
    starts: Box<[(u32, u32)]>,
    records: Box<[u8]>,
    /// The title, the message of the outcome and the message of the error of each row, with a separator after each text.
    texts: Box<str>,
    words: Words,
}

impl PackedRows {
    /// Packs these rows, which have these indexes in their block and are in that order. `None` if they are too large.
    pub(super) fn new<'a>(rows: &(impl Iterator<Item = (usize, &'a Row)> + Clone)) -> Option<Self> {
        let mut key_table: Vec<_> = rows.clone().map(|(_, row)| Arc::clone(row.counter_key())).collect();
        key_table.sort_unstable_by_key(|key| key.index);
        key_table.dedup_by_key(|key| key.index);
        let mut packer = Packer { key_table, ..Packer::default() };
        for (_, row) in rows.clone() {
            packer.add(row)?;
        }
        let column = |of: fn(&Row) -> Option<i64>| {
            let numbers: Vec<_> = rows.clone().map(|(_, row)| of(row)).collect();
            Numbers::new(&numbers)
        };
        Some(Self {
            indexes: rows.clone().map(|(index, _)| index).collect(),
            ids: rows.clone().map(|(_, row)| row.id()).collect(),
            statuses: rows.clone().map(|(_, row)| row.status()).collect(),
            keys: packer.keys.into(),
            key_table: packer.key_table.into(),
            workers: packer.workers.into(),
            created_positions: column(|row| Some(row.created_position().0.cast_signed())),
            ended_positions: column(|row| row.ended_position().map(|at| at.0.cast_signed())),
            created_at: column(|row| Some(row.created_at().as_micros())),
            finished_at: column(|row| row.finished_at().map(Timestamp::as_micros)),
            starts: packer.starts.into(),
            records: packer.records.0.into(),
            words: Words::of(&packer.texts),
            texts: packer.texts.into(),
        })
    }

    pub(super) const fn indexes(&self) -> IndexSet {
        self.indexes
    }

    /// The row with this index in the block, which must be one of [`PackedRows::indexes`].
    pub(super) fn row(&self, index: usize) -> PackedRow<'_> {
        PackedRow { rows: self, at: if self.indexes == IndexSet::ALL { index } else { self.indexes.rank(index) } }
    }

    /// The indexes of the rows whose texts contain all words. `scratch` is a buffer.
    pub(super) fn find_words(&self, search: &WordSearch, scratch: &mut String) -> IndexSet {
        if !self.words.may_contain(search) {
            return IndexSet::default();
        }
        words::to_lowercase(&self.texts, scratch);
        let starts: Vec<u32> =
            if scratch.len() == self.texts.len() { self.text_starts() } else { self.lowered_starts() };
        let found = search.find_all(scratch, &starts);
        let mut indexes = self.indexes.iter();
        // The rows are found in ascending order, by their place in the columns.
        let mut next = 0;
        found
            .iter()
            .filter_map(|at| {
                let index = indexes.nth(at - next);
                next = at + 1;
                index
            })
            .collect()
    }

    fn text_starts(&self) -> Vec<u32> {
        self.starts.iter().map(|(_, text)| *text).collect()
    }

    /// The starts of the texts of each row in the text in lower case, whose letters may have other lengths.
    fn lowered_starts(&self) -> Vec<u32> {
        let (mut start, mut lowered) = (0, String::new());
        let ends = self.starts.iter().skip(1).map(|(_, text)| *text as usize).chain([self.texts.len()]);
        let mut from = 0;
        let mut starts = Vec::with_capacity(self.starts.len());
        for end in ends {
            starts.push(start);
            words::to_lowercase(self.texts.get(from..end).unwrap_or_default(), &mut lowered);
            start += u32::try_from(lowered.len()).unwrap_or(u32::MAX);
            from = end;
        }
        starts
    }
}

/// Collects what rows have in common, their records and their texts.
#[derive(Default)]
struct Packer {
    keys: Vec<u16>,
    /// In the order of the indexes of the keys.
    key_table: Vec<Arc<CounterKey>>,
    workers: Vec<Arc<str>>,
    starts: Vec<(u32, u32)>,
    records: Writer,
    texts: String,
}

impl Packer {
    fn add(&mut self, row: &Row) -> Option<()> {
        let key = self.key_table.partition_point(|key| key.index < row.counter_key().index);
        self.keys.push(u16::try_from(key).ok()?);
        self.starts.push((u32::try_from(self.records.0.len()).ok()?, u32::try_from(self.texts.len()).ok()?));
        self.put_record(row);
        Some(())
    }

    fn put_text(&mut self, text: &str) {
        self.records.put(text.len() as u64);
        self.texts.push_str(text);
        self.texts.push(SEPARATOR);
    }

    /// [`PackedRow::unpack`] reads the fields in the same order.
    fn put_record(&mut self, row: &Row) {
        Flags::of(row).put(&mut self.records);
        if let Some(fields) = row.optional_fields() {
            record::put_optional_fields(&mut self.records, fields);
        }
        let created_at = row.created_at().as_micros();
        let since_creation = |at: Timestamp| at.as_micros().wrapping_sub(created_at);
        self.records.put(row.revision().0);
        self.records.put(row.position().0.wrapping_sub(row.created_position().0));
        self.records.put(u64::from(row.attempt()));
        self.records.put_signed(i64::from(row.priority()));
        self.records.put(u64::from(row.max_attempts()));
        self.records.put(row.index_in_list() as u64);
        if let Some(worker) = row.shared_worker() {
            let worker = index_of(&mut self.workers, worker);
            self.records.put(worker as u64);
        }
        for at in [row.started_at(), row.retry_at()].into_iter().flatten() {
            self.records.put_signed(since_creation(at));
        }
        self.put_text(row.title());
        if let Some(message) = row.outcome().and_then(|outcome| outcome.message.as_deref()) {
            self.put_text(message);
        }
        if let Some(error) = row.outcome().and_then(|outcome| outcome.error.as_ref()) {
            self.put_text(&error.message);
            self.records.put_text(&error.code);
        }
        if let Some(cancel) = row.cancel() {
            record::put_cancel(&mut self.records, cancel);
        }
        if let Some(progress) = row.progress() {
            record::put_progress(&mut self.records, progress);
        }
    }
}

/// The index of the name in the table; adds the name if it is new. Mostly it is the one of the row before.
fn index_of(table: &mut Vec<Arc<str>>, name: &Arc<str>) -> usize {
    if let Some(from_end) = table.iter().rev().position(|known| known == name) {
        return table.len() - 1 - from_end;
    }
    table.push(Arc::clone(name));
    table.len() - 1
}

/// One of the packed rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct PackedRow<'a> {
    rows: &'a PackedRows,
    /// Its place in the columns.
    at: usize,
}

impl<'a> PackedRow<'a> {
    pub(super) fn id(self) -> Option<TaskId> {
        self.rows.ids.get(self.at).copied()
    }

    pub(super) fn status(self) -> Option<Status> {
        self.rows.statuses.get(self.at).copied()
    }

    pub(super) fn key(self) -> Option<&'a Arc<CounterKey>> {
        self.rows.key_table.get(usize::from(*self.rows.keys.get(self.at)?))
    }

    pub(super) fn created_position(self) -> Option<Position> {
        self.rows.created_positions.get(self.at).map(|at| Position(at.cast_unsigned()))
    }

    pub(super) fn ended_position(self) -> Option<Position> {
        self.rows.ended_positions.get(self.at).map(|at| Position(at.cast_unsigned()))
    }

    pub(super) fn created_at(self) -> Option<Timestamp> {
        self.rows.created_at.get(self.at).map(Timestamp::from_micros)
    }

    pub(super) fn finished_at(self) -> Option<Timestamp> {
        self.rows.finished_at.get(self.at).map(Timestamp::from_micros)
    }

    fn record(self) -> Option<Reader<'a>> {
        self.rows.records.get(self.rows.starts.get(self.at)?.0 as usize..).map(Reader)
    }

    pub(super) fn has_cancel_request(self) -> Option<bool> {
        Some(Flags::take(&mut self.record()?)?.has(Flags::CANCEL))
    }

    /// Whether the task has this parent, if one is given, and all of these labels.
    pub(super) fn has_parent_and_labels(self, parent: Option<TaskId>, labels: &[(String, String)]) -> Option<bool> {
        let mut reader = self.record()?;
        if !Flags::take(&mut reader)?.has(Flags::OPTIONAL_FIELDS) {
            return Some(parent.is_none() && labels.is_empty());
        }
        let (own_parent, mut own_labels) = record::take_parent_and_labels(&mut reader)?;
        if parent.is_some() && parent != own_parent {
            return Some(false);
        }
        if let [(key, value)] = labels {
            return Some(own_labels.any(|label| label == (key, value)));
        }
        let own_labels: Vec<_> = own_labels.collect();
        Some(labels.iter().all(|(key, value)| own_labels.contains(&(key, value))))
    }

    /// The row, which has this index in its block.
    pub(super) fn unpack(self, index: u16) -> Option<Row> {
        let mut reader = self.record()?;
        let mut texts = Texts(self.rows.texts.get(self.rows.starts.get(self.at)?.1 as usize..)?);
        let flags = Flags::take(&mut reader)?;
        let optional = take_if(flags.has(Flags::OPTIONAL_FIELDS), || record::take_optional_fields(&mut reader))?;
        let (created_at, created_position) = (self.created_at()?, self.created_position()?);
        let since_creation =
            |distance: i64| OptionalTimestamp::of_micros(created_at.as_micros().wrapping_add(distance));
        let revision = Revision(reader.take()?);
        let position = Position(created_position.0.wrapping_add(reader.take()?));
        let attempt = reader.take_u32()?;
        let priority = i32::try_from(reader.take_signed()?).ok()?;
        let max_attempts = reader.take_u32()?;
        let index_in_list = reader.take_len()?;
        let worker = take_if(flags.has(Flags::WORKER), || self.rows.workers.get(reader.take_len()?).cloned())?;
        let started_at = take_if(flags.has(Flags::STARTED), || reader.take_signed().map(since_creation))?;
        let retry_at = take_if(flags.has(Flags::RETRY), || reader.take_signed().map(since_creation))?;
        let title = texts.take(&mut reader)?.into();
        let outcome = take_outcome(flags, &mut reader, &mut texts)?;
        let cancel = take_if(flags.has(Flags::CANCEL), || record::take_cancel(&mut reader))?;
        let progress = take_if(flags.has(Flags::PROGRESS), || record::take_progress(&mut reader))?;
        let fixed = FixedFields {
            id: self.id()?,
            counter_key: Arc::clone(self.key()?),
            title,
            created_at,
            created_position,
            priority,
            max_attempts,
            index_in_list,
            optional: optional.map(Box::new),
        };
        Some(Row {
            fixed: Arc::new(fixed),
            worker,
            lease_hash: None,
            started_at: started_at.unwrap_or(OptionalTimestamp::NONE),
            finished_at: self.finished_at().map_or(OptionalTimestamp::NONE, OptionalTimestamp::some),
            retry_at: retry_at.unwrap_or(OptionalTimestamp::NONE),
            outcome: outcome.map(Arc::new),
            cancel: cancel.map(Arc::new),
            progress: progress.map(Arc::new),
            revision,
            position,
            ended_position: self.ended_position().unwrap_or(Position(0)),
            attempt,
            status: self.status()?,
            index_in_block: index,
        })
    }
}

/// The texts of a row that were not read yet.
struct Texts<'a>(&'a str);

impl<'a> Texts<'a> {
    /// The next text, whose length is in the record.
    fn take(&mut self, record: &mut Reader) -> Option<&'a str> {
        let (text, rest) = self.0.split_at_checked(record.take_len()?)?;
        self.0 = rest.strip_prefix(SEPARATOR)?;
        Some(text)
    }
}

/// The value if it is present. The outer `None` says that it can't be read.
fn take_if<T>(is_present: bool, take: impl FnOnce() -> Option<T>) -> Option<Option<T>> {
    if is_present { take().map(Some) } else { Some(None) }
}

fn take_outcome(flags: Flags, reader: &mut Reader, texts: &mut Texts) -> Option<Option<RunOutcome>> {
    let message = take_if(flags.has(Flags::MESSAGE), || texts.take(reader).map(Into::into))?;
    let error = take_if(flags.has(Flags::ERROR), || {
        let message = texts.take(reader)?.to_owned();
        Some(Box::new(TaskError { code: reader.take_text()?.to_owned(), message }))
    })?;
    Some((message.is_some() || error.is_some()).then_some(RunOutcome { message, error }))
}
