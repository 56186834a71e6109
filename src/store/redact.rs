//! Recorded events without the inputs, results and outputs of tasks, for callers who may not read those.

use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::event::LogEvent;
use super::recorded::Recorded;
use crate::task::Event;
use crate::task::schedule::ScheduleEvent;

/// An event whose inputs, results and outputs are null in JSON. The member `redacted` names them by their JSON pointers. It is
/// absent if the type of the event has no such values. The `hash` is that of the event as it is stored.
pub struct RedactedEvent<'a>(pub &'a Recorded);

/// The JSON pointers, in `data`, to the values that a redacted event doesn't show.
#[must_use]
pub const fn redacted_pointers(event: &LogEvent) -> &'static [&'static str] {
    match event {
        LogEvent::Task(Event::Created(_)) => &["/input"],
        LogEvent::Task(Event::Completed(_)) => &["/result"],
        LogEvent::Task(Event::OutputKept(_)) => &["/tail"],
        LogEvent::Schedule(ScheduleEvent::ScheduleCreated(_)) => &["/task/input"],
        LogEvent::Task(
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelRequested(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::AttemptFailed(_)
            | Event::Released(_)
            | Event::Retried(_),
        )
        | LogEvent::Bell(_)
        | LogEvent::Queue(_)
        | LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(_))
        | LogEvent::Token(_)
        | LogEvent::Session(_) => &[],
    }
}

/// The `data` of the event without the values that a redacted event doesn't show. `None` if nothing has to be removed.
///
/// # Errors
/// If the stored data is not JSON, which is a damaged event.
pub fn redacted_data(recorded: &Recorded) -> serde_json::Result<Option<Box<RawValue>>> {
    let pointers = redacted_pointers(&recorded.event);
    if pointers.is_empty() {
        return Ok(None);
    }
    let mut data: Value = serde_json::from_str(recorded.raw_data.get())?;
    for pointer in pointers {
        if let Some(value) = data.pointer_mut(pointer) {
            *value = Value::Null;
        }
    }
    to_raw_value(&data).map(Some)
}

impl Serialize for RedactedEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0;
        let Some(data) = redacted_data(recorded).map_err(S::Error::custom)? else {
            return recorded.serialize(serializer);
        };
        let pointers: Vec<String> =
            redacted_pointers(&recorded.event).iter().map(|pointer| format!("/data{pointer}")).collect();
        let mut out = serializer.serialize_struct("Recorded", 11)?;
        recorded.serialize_head(&mut out)?;
        out.serialize_field("data", &data)?;
        out.serialize_field("redacted", &pointers)?;
        out.serialize_field("hash", &format_args!("{}", recorded.hash))?;
        out.end()
    }
}
