//! Old events in their current version. A step turns one version into the next; a chain of steps leads to the current one.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The fields of an event's `data`, each as its text: what a step doesn't touch stays as it was written.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// Turns one version of a type into the next.
#[derive(Clone, Copy)]
pub struct Step {
    /// The type.
    pub kind: &'static str,
    /// The version that it reads; it returns the one after.
    pub from: u32,
    /// Changes `data`; none where `data` isn't of that version.
    pub up: fn(Fields) -> Option<Fields>,
}

/// All steps, those of a type from its oldest version on. No type has an old version yet.
pub const STEPS: &[Step] = &[];

/// Turns `data` of version `from` into version `to`, one step at a time; none where a step is missing or fails.
#[must_use]
pub fn upcast(steps: &[Step], kind: &str, from: u32, to: u32, data: Fields) -> Option<Fields> {
    (from..to).try_fold(data, |data, version| {
        let step = steps.iter().find(|step| step.kind == kind && step.from == version)?;
        (step.up)(data)
    })
}
