//! Recorded events without the inputs, results and outputs of tasks, for callers who may not read those.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};
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

/// The JSON pointers, in the event, to the values that a redacted event doesn't show.
#[must_use]
pub fn redacted_members(event: &LogEvent) -> Vec<String> {
    redacted_pointers(event).iter().map(|pointer| format!("/data{pointer}")).collect()
}

/// The `data` of the event without the values that a redacted event doesn't show. `None` if nothing has to be removed.
///
/// # Errors
/// If the stored data is not JSON, which is a damaged event.
pub fn redacted_data(recorded: &Recorded) -> serde_json::Result<Option<Box<RawValue>>> {
    let pointers = redacted_pointers(&recorded.event);
    let mut data: Option<Box<RawValue>> = None;
    for pointer in pointers {
        let object = data.as_deref().map_or(recorded.raw_data.get(), RawValue::get);
        data = Some(without(object, pointer.trim_start_matches('/'))?);
    }
    Ok(data)
}

/// The object with null in place of the value at this path, whose names are separated by slashes. All other values are copied
/// as they are written.
fn without(object: &str, path: &str) -> serde_json::Result<Box<RawValue>> {
    let (name, below) = path.split_once('/').map_or((path, None), |(name, below)| (name, Some(below)));
    let Members(mut members) = serde_json::from_str(object)?;
    for (_, value) in members.iter_mut().filter(|(known, _)| known == name) {
        let replaced = below.map_or_else(|| to_raw_value(&()), |below| without(value.get(), below))?;
        *value = Cow::Owned(replaced);
    }
    to_raw_value(&Members(members))
}

/// The members of an object, in their order. The values stay the text that the client sent: a number may be too long
/// for every type, and a name may mean something to serde.
struct Members<'a>(Vec<(String, Cow<'a, RawValue>)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyMembers;

        impl<'de> Visitor<'de> for AnyMembers {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members<'de>, A::Error> {
                let mut read = Vec::new();
                while let Some((name, value)) = members.next_entry::<String, &'de RawValue>()? {
                    read.push((name, Cow::Borrowed(value)));
                }
                Ok(Members(read))
            }
        }

        from.deserialize_map(AnyMembers)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl Serialize for RedactedEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let recorded = self.0;
        let Some(data) = redacted_data(recorded).map_err(S::Error::custom)? else {
            return recorded.serialize(serializer);
        };
        let mut out = serializer.serialize_struct("Recorded", 11)?;
        recorded.serialize_head(&mut out)?;
        out.serialize_field("data", &data)?;
        out.serialize_field("redacted", &redacted_members(&recorded.event))?;
        out.serialize_field("hash", &format_args!("{}", recorded.hash))?;
        out.end()
    }
}
