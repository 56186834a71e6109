//! The record of a packed row: the fields that are in no column, one after the other.

use std::collections::BTreeMap;

use crate::task::event::{CancelLadder, Progress, Rung};
use crate::task::{Position, TaskId};
use crate::views::bytes::{Reader, Writer};
use crate::views::cancel::{CancelView, Verdict};
use crate::views::row::{OptionalFields, Row};

/// Which of the fields that may be absent are in a record, one bit each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags(u64);

impl Flags {
    pub(super) const OPTIONAL_FIELDS: Self = Self(1);
    pub(super) const WORKER: Self = Self(1 << 1);
    pub(super) const STARTED: Self = Self(1 << 2);
    pub(super) const RETRY: Self = Self(1 << 3);
    pub(super) const MESSAGE: Self = Self(1 << 4);
    pub(super) const ERROR: Self = Self(1 << 5);
    pub(super) const CANCEL: Self = Self(1 << 6);
    pub(super) const PROGRESS: Self = Self(1 << 7);

    pub(super) fn of(row: &Row) -> Self {
        let outcome = row.outcome();
        let present = [
            (Self::OPTIONAL_FIELDS, row.optional_fields().is_some()),
            (Self::WORKER, row.worker().is_some()),
            (Self::STARTED, row.started_at().is_some()),
            (Self::RETRY, row.retry_at().is_some()),
            (Self::MESSAGE, outcome.is_some_and(|outcome| outcome.message.is_some())),
            (Self::ERROR, outcome.is_some_and(|outcome| outcome.error.is_some())),
            (Self::CANCEL, row.cancel().is_some()),
            (Self::PROGRESS, row.progress().is_some()),
        ];
        Self(present.into_iter().filter(|(_, is_present)| *is_present).fold(0, |sum, (flag, _)| sum | flag.0))
    }

    pub(super) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn put(self, writer: &mut Writer) {
        writer.put(self.0);
    }

    pub(super) fn take(reader: &mut Reader) -> Option<Self> {
        reader.take().map(Self)
    }
}

/// The parent and the labels come first, because filters read them.
pub(super) fn put_optional_fields(writer: &mut Writer, fields: &OptionalFields) {
    writer.put_option(fields.parent, |writer, parent| writer.put_uuid(parent.uuid()));
    writer.put(fields.labels.len() as u64);
    for (key, value) in &fields.labels {
        writer.put_text(key);
        writer.put_text(value);
    }
    writer.put_option(fields.run_at, Writer::put_time);
    writer.put_option(fields.timeout_s, Writer::put);
    writer.put_optional_text(fields.unique_key.as_deref());
    writer.put_optional_text(fields.concurrency_key.as_deref());
}

/// The parent of the task that these optional fields belong to, and its labels.
pub(super) fn take_parent_and_labels<'a>(
    reader: &mut Reader<'a>,
) -> Option<(Option<TaskId>, impl Iterator<Item = (&'a str, &'a str)> + use<'a>)> {
    let parent = reader.take_option(Reader::take_task_id)?;
    let mut labels = *reader;
    let count = labels.take_len()?;
    Some((parent, (0..count).map_while(move |_| Some((labels.take_text()?, labels.take_text()?)))))
}

pub(super) fn take_optional_fields(reader: &mut Reader) -> Option<OptionalFields> {
    let parent = reader.take_option(Reader::take_task_id)?;
    let mut labels = BTreeMap::new();
    for _ in 0..reader.take()? {
        labels.insert(reader.take_text()?.to_owned(), reader.take_text()?.to_owned());
    }
    Some(OptionalFields {
        labels,
        parent,
        run_at: reader.take_option(Reader::take_time)?,
        timeout_s: reader.take_option(Reader::take)?,
        unique_key: reader.take_optional_text()?,
        concurrency_key: reader.take_optional_text()?,
    })
}

pub(super) fn put_cancel(writer: &mut Writer, cancel: &CancelView) {
    writer.put(cancel.requested_position.0);
    writer.put_option(cancel.policy.ask_for_ms, Writer::put);
    writer.put_option(cancel.policy.interrupt_for_ms, Writer::put);
    writer.put_time(cancel.requested_at);
    writer.put_text(&cancel.requested_by);
    writer.put_optional_text(cancel.reason.as_deref());
    writer.put_option(cancel.acknowledged_at, Writer::put_time);
    writer.put_optional_text(cancel.stopping_after.as_deref());
    writer.put_option(cancel.expected_end, Writer::put_time);
    writer.put(cancel.rung as u64);
    writer.put_time(cancel.rung_at);
    writer.put_option(cancel.verdict, |writer, verdict| writer.put(verdict as u64));
}

pub(super) fn take_cancel(reader: &mut Reader) -> Option<CancelView> {
    const RUNGS: [Rung; 3] = [Rung::Ask, Rung::Interrupt, Rung::Revoke];
    const VERDICTS: [Verdict; 4] = [Verdict::Cancelled, Verdict::FinishedFirst, Verdict::FailedFirst, Verdict::Forced];
    Some(CancelView {
        requested_position: Position(reader.take()?),
        policy: CancelLadder {
            ask_for_ms: reader.take_option(Reader::take)?,
            interrupt_for_ms: reader.take_option(Reader::take)?,
        },
        requested_at: reader.take_time()?,
        requested_by: reader.take_text()?.into(),
        reason: reader.take_optional_text()?,
        acknowledged_at: reader.take_option(Reader::take_time)?,
        stopping_after: reader.take_optional_text()?,
        expected_end: reader.take_option(Reader::take_time)?,
        rung: *RUNGS.get(reader.take_len()?)?,
        rung_at: reader.take_time()?,
        verdict: reader.take_option(|reader| VERDICTS.get(reader.take_len()?).copied())?,
    })
}

pub(super) fn put_progress(writer: &mut Writer, progress: &Progress) {
    writer.put_option(progress.fraction, |writer, fraction| writer.put_bytes(&fraction.to_le_bytes()));
    writer.put_optional_text(progress.message.as_deref());
    writer.put_time(progress.at);
}

pub(super) fn take_progress(reader: &mut Reader) -> Option<Progress> {
    let take_fraction = |reader: &mut Reader| reader.take_bytes(8)?.try_into().ok().map(f64::from_le_bytes);
    Some(Progress {
        fraction: reader.take_option(take_fraction)?,
        message: reader.take_optional_text()?,
        at: reader.take_time()?,
    })
}
