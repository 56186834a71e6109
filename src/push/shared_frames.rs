//! Frames that sockets share. Many sockets have the same bell and the same subscription, so each of their frames is written
//! once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bells::BellId;
use super::frames;
use crate::dispatch::queue_and_offers::QueueAndOffers;
use crate::task::{Position, TaskId};
use crate::views::{BellCounters, Views};

/// How many bytes a frame with changed tasks may have. If it has more, the client must request its page again.
const BYTES_MAX: usize = 64 * 1024;
/// How many different frames of a kind are kept.
const FRAMES_MAX: usize = 64;
/// For how long frames are kept. What a task waits for may change without an event.
const KEPT_FOR: Duration = Duration::from_millis(10);

/// The frames that the hub has just written. All of them reflect the same position.
#[derive(Default)]
pub(super) struct SharedFrames {
    position: Position,
    /// When the first of the frames was written.
    since: Option<Instant>,
    counters: HashMap<BellId, BellCounters>,
    /// By the bell, and the position of the counters that were sent before.
    counters_frames: HashMap<(BellId, Position), Arc<str>>,
    tasks: Vec<(HashSet<TaskId>, Arc<str>)>,
    beat: Option<Arc<str>>,
}

impl SharedFrames {
    /// Drops the frames, because a running task has new progress or `stale_since` has changed: that has no position.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops the frames that are too old to be sent now.
    pub(super) fn clear_old(&mut self, position: Position, now: Instant) {
        if self.position != position || self.since.is_none_or(|since| now.duration_since(since) >= KEPT_FOR) {
            *self = Self { position, since: Some(now), ..Self::default() };
        }
    }

    /// The present counters of a bell, which `read` reads from the views.
    pub(super) fn counters(
        &mut self,
        bell: BellId,
        read: impl FnOnce() -> Option<BellCounters>,
    ) -> Option<BellCounters> {
        if let Some(known) = self.counters.get(&bell) {
            return Some(*known);
        }
        let counters = read()?;
        self.counters.insert(bell, counters);
        Some(counters)
    }

    /// The frame with the counters of a bell, for the sockets that got those of position `previous` before.
    pub(super) fn counters_frame(&mut self, bell: BellId, previous: Position, counters: &BellCounters) -> Arc<str> {
        if self.counters_frames.len() >= FRAMES_MAX {
            self.counters_frames.clear();
        }
        let frame = self.counters_frames.entry((bell, previous));
        Arc::clone(frame.or_insert_with(|| frames::counters(previous, counters).into()))
    }

    /// The frame with these tasks, or the frame `tasks_changed` if it is too long.
    pub(super) fn tasks(
        &mut self,
        views: &Views,
        ids: &HashSet<TaskId>,
        queue_and_offers: &QueueAndOffers,
    ) -> Arc<str> {
        if let Some((_, frame)) = self.tasks.iter().find(|(known, _)| known == ids) {
            return Arc::clone(frame);
        }
        if self.tasks.len() >= FRAMES_MAX {
            self.tasks.clear();
        }
        let tasks = frames::tasks(views, ids, queue_and_offers);
        let frame = if tasks.len() > BYTES_MAX { frames::tasks_changed(views.position()) } else { tasks };
        let frame: Arc<str> = frame.into();
        self.tasks.push((ids.clone(), Arc::clone(&frame)));
        frame
    }

    /// The beat, which `write` writes.
    pub(super) fn beat(&mut self, write: impl FnOnce() -> String) -> Arc<str> {
        Arc::clone(self.beat.get_or_insert_with(|| write().into()))
    }
}
