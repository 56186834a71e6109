//! Frames with changed tasks, which sockets share.

use std::collections::HashSet;
use std::sync::Arc;

use super::frames;
use crate::dispatch::capacity::Capacity;
use crate::task::{Position, TaskId};
use crate::views::Views;

/// How many bytes a frame with changed tasks may have. If it has more, the client must request its page again.
const BYTES_MAX: usize = 64 * 1024;
/// How many different frames are kept.
const FRAMES_MAX: usize = 16;

/// The frames with changed tasks that the hub has written in one round. Many sockets have the same subscription, so the same
/// tasks have changed for them. They share one frame, which is written once.
#[derive(Default)]
pub(super) struct TaskFrames {
    /// The position that all these frames reflect.
    position: Position,
    frames: Vec<(HashSet<TaskId>, Arc<str>)>,
}

impl TaskFrames {
    /// The frame with these tasks, or the frame `tasks_changed` if it is too long.
    pub(super) fn get(&mut self, views: &Views, ids: &HashSet<TaskId>, capacity: &Capacity) -> Arc<str> {
        if self.position != views.position() || self.frames.len() >= FRAMES_MAX {
            self.position = views.position();
            self.frames.clear();
        }
        if let Some((_, frame)) = self.frames.iter().find(|(known, _)| known == ids) {
            return Arc::clone(frame);
        }
        let tasks = frames::tasks(views, ids, capacity);
        let frame = if tasks.len() > BYTES_MAX { frames::tasks_changed(self.position) } else { tasks };
        let frame: Arc<str> = frame.into();
        self.frames.push((ids.clone(), Arc::clone(&frame)));
        frame
    }
}
