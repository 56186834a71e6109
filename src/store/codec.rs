//! Encodes events as JSON and decodes them. The names and versions of the types are those of the folders in `events/`.

use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use super::ReadError;
use super::event::LogEvent;
use super::upcast::{STEPS, upcast};
use crate::task::bell::BellEvent;
use crate::task::limits::DEPTH_MAX;
use crate::task::queue::QueueEvent;
use crate::task::schedule::ScheduleEvent;
use crate::task::session::SessionEvent;
use crate::task::token::TokenEvent;
use crate::task::{Event, JsonText};

/// Every type of event that the log can hold, with the version in which it is written now.
pub const TYPES: [(&str, u32); 20] = [
    ("Created", 1),
    ("Queued", 1),
    ("Started", 1),
    ("CancelRequested", 1),
    ("CancelAcknowledged", 1),
    ("CancelEscalated", 1),
    ("AttemptFailed", 1),
    ("Released", 1),
    ("OutputKept", 1),
    ("Completed", 1),
    ("Retried", 1),
    ("Seen", 1),
    ("Paused", 1),
    ("Resumed", 1),
    ("ScheduleCreated", 1),
    ("ScheduleRemoved", 1),
    ("TokenCreated", 1),
    ("TokenRevoked", 1),
    ("SessionOpened", 1),
    ("SessionEnded", 1),
];

/// The version in which events of this type are written now; `None` if this version of Taskbell doesn't know the type.
#[must_use]
pub fn current_version(kind: &str) -> Option<u32> {
    TYPES.iter().find(|(name, _)| *name == kind).map(|&(_, version)| version)
}

/// The name of the event's type, as the log and the API write it.
#[must_use]
pub const fn type_name(event: &LogEvent) -> &'static str {
    match event {
        LogEvent::Task(Event::Created(_)) => "Created",
        LogEvent::Task(Event::Queued(_)) => "Queued",
        LogEvent::Task(Event::Started(_)) => "Started",
        LogEvent::Task(Event::CancelRequested(_)) => "CancelRequested",
        LogEvent::Task(Event::CancelAcknowledged(_)) => "CancelAcknowledged",
        LogEvent::Task(Event::CancelEscalated(_)) => "CancelEscalated",
        LogEvent::Task(Event::AttemptFailed(_)) => "AttemptFailed",
        LogEvent::Task(Event::Released(_)) => "Released",
        LogEvent::Task(Event::OutputKept(_)) => "OutputKept",
        LogEvent::Task(Event::Completed(_)) => "Completed",
        LogEvent::Task(Event::Retried(_)) => "Retried",
        LogEvent::Bell(BellEvent::Seen(_)) => "Seen",
        LogEvent::Queue(QueueEvent::Paused(_)) => "Paused",
        LogEvent::Queue(QueueEvent::Resumed(_)) => "Resumed",
        LogEvent::Schedule(ScheduleEvent::ScheduleCreated(_)) => "ScheduleCreated",
        LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(_)) => "ScheduleRemoved",
        LogEvent::Token(TokenEvent::TokenCreated(_)) => "TokenCreated",
        LogEvent::Token(TokenEvent::TokenRevoked(_)) => "TokenRevoked",
        LogEvent::Session(SessionEvent::SessionOpened(_)) => "SessionOpened",
        LogEvent::Session(SessionEvent::SessionEnded(_)) => "SessionEnded",
    }
}

/// Whether the event certainly stays the same when it is encoded and decoded. False if the event holds a float, or JSON that
/// is nested too deeply.
#[must_use]
pub fn round_trips(event: &LogEvent) -> bool {
    match event {
        LogEvent::Task(
            Event::Queued(_)
            | Event::Started(_)
            | Event::CancelRequested(_)
            | Event::CancelAcknowledged(_)
            | Event::CancelEscalated(_)
            | Event::Released(_)
            | Event::OutputKept(_)
            | Event::Retried(_),
        )
        | LogEvent::Bell(_)
        | LogEvent::Queue(_)
        | LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(_))
        | LogEvent::Token(_)
        | LogEvent::Session(_) => true,
        LogEvent::Task(Event::Completed(completed)) => {
            completed.progress.is_none() && completed.result.as_ref().is_none_or(is_readable)
        }
        LogEvent::Task(Event::AttemptFailed(failed)) => failed.progress.is_none(),
        LogEvent::Task(Event::Created(created)) => is_readable(&created.input),
        LogEvent::Schedule(ScheduleEvent::ScheduleCreated(created)) => is_readable(&created.task.input),
    }
}

/// Whether the value can be decoded from the log.
fn is_readable(value: &JsonText) -> bool {
    value.depth() <= DEPTH_MAX
}

/// Encodes the event's `data` in the current version of its type.
///
/// # Errors
/// If a value in the event can't be written as JSON.
pub fn encode(event: &LogEvent) -> Result<Box<RawValue>, serde_json::Error> {
    match event {
        LogEvent::Task(Event::Created(data)) => to_raw_value(data),
        LogEvent::Task(Event::Queued(data)) => to_raw_value(data),
        LogEvent::Task(Event::Started(data)) => to_raw_value(data),
        LogEvent::Task(Event::CancelRequested(data)) => to_raw_value(data),
        LogEvent::Task(Event::CancelAcknowledged(data)) => to_raw_value(data),
        LogEvent::Task(Event::CancelEscalated(data)) => to_raw_value(data),
        LogEvent::Task(Event::AttemptFailed(data)) => to_raw_value(data),
        LogEvent::Task(Event::Released(data)) => to_raw_value(data),
        LogEvent::Task(Event::OutputKept(data)) => to_raw_value(data),
        LogEvent::Task(Event::Completed(data)) => to_raw_value(data),
        LogEvent::Task(Event::Retried(data)) => to_raw_value(data),
        LogEvent::Bell(BellEvent::Seen(data)) => to_raw_value(data),
        LogEvent::Queue(QueueEvent::Paused(data)) => to_raw_value(data),
        LogEvent::Queue(QueueEvent::Resumed(data)) => to_raw_value(data),
        LogEvent::Schedule(ScheduleEvent::ScheduleCreated(data)) => to_raw_value(data),
        LogEvent::Schedule(ScheduleEvent::ScheduleRemoved(data)) => to_raw_value(data),
        LogEvent::Token(TokenEvent::TokenCreated(data)) => to_raw_value(data),
        LogEvent::Token(TokenEvent::TokenRevoked(data)) => to_raw_value(data),
        LogEvent::Session(SessionEvent::SessionOpened(data)) => to_raw_value(data),
        LogEvent::Session(SessionEvent::SessionEnded(data)) => to_raw_value(data),
    }
}

/// Decodes the event of this type, version and `data`. An event of an old version is converted to the current version.
///
/// # Errors
/// [`ReadError::Unknown`] if this version of Taskbell doesn't know the type or version; [`ReadError::Damaged`] if `data` is
/// not of this type and version.
pub fn decode(kind: &str, version: u32, data: &str) -> Result<LogEvent, ReadError> {
    let unknown = || ReadError::Unknown { position: None, event_type: kind.to_owned(), version };
    let current = current_version(kind).ok_or_else(unknown)?;
    if version == current {
        return decode_current(kind, data).ok_or_else(unknown)?.map_err(|error| damaged(kind, &error));
    }
    if version == 0 || version > current {
        return Err(unknown());
    }
    let old = serde_json::from_str(data).map_err(|error| damaged(kind, &error))?;
    let new = upcast(STEPS, kind, version, current, old)
        .ok_or_else(|| ReadError::Damaged(format!("data is no {kind} of version {version}")))?;
    let new = serde_json::to_string(&new).map_err(|error| damaged(kind, &error))?;
    decode_current(kind, &new).ok_or_else(unknown)?.map_err(|error| damaged(kind, &error))
}

/// Decodes `data` of the current version; `None` if this version of Taskbell doesn't know the type.
fn decode_current(kind: &str, data: &str) -> Option<serde_json::Result<LogEvent>> {
    fn read<T: DeserializeOwned, E: Into<LogEvent>>(data: &str, wrap: fn(T) -> E) -> serde_json::Result<LogEvent> {
        serde_json::from_str(data).map(|data| wrap(data).into())
    }
    Some(match kind {
        "Created" => read(data, Event::Created),
        "Queued" => read(data, Event::Queued),
        "Started" => read(data, Event::Started),
        "CancelRequested" => read(data, Event::CancelRequested),
        "CancelAcknowledged" => read(data, Event::CancelAcknowledged),
        "CancelEscalated" => read(data, Event::CancelEscalated),
        "AttemptFailed" => read(data, Event::AttemptFailed),
        "Released" => read(data, Event::Released),
        "OutputKept" => read(data, Event::OutputKept),
        "Completed" => read(data, Event::Completed),
        "Retried" => read(data, Event::Retried),
        "Seen" => read(data, BellEvent::Seen),
        "Paused" => read(data, QueueEvent::Paused),
        "Resumed" => read(data, QueueEvent::Resumed),
        "ScheduleCreated" => read(data, ScheduleEvent::ScheduleCreated),
        "ScheduleRemoved" => read(data, ScheduleEvent::ScheduleRemoved),
        "TokenCreated" => read(data, TokenEvent::TokenCreated),
        "TokenRevoked" => read(data, TokenEvent::TokenRevoked),
        "SessionOpened" => read(data, SessionEvent::SessionOpened),
        "SessionEnded" => read(data, SessionEvent::SessionEnded),
        _ => return None,
    })
}

fn damaged(kind: &str, error: &serde_json::Error) -> ReadError {
    ReadError::Damaged(format!("data is no {kind}: {error}"))
}
