//! Converts the data of an old event to the current version of its type. One step converts one version to the next version;
//! several steps in a row lead to the current version.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The fields of an event's `data`, each as its text. A field that no step changes stays as it was written.
pub type Fields = BTreeMap<String, Box<RawValue>>;

/// Converts the data of one version of a type to the next version.
#[derive(Clone, Copy)]
pub struct UpcastStep {
    /// The type.
    pub kind: &'static str,
    /// The version that the step reads. The step returns version `from + 1`.
    pub from: u32,
    /// Converts `data`; returns `None` if `data` is not of version `from`.
    pub convert: fn(Fields) -> Option<Fields>,
}

/// All steps. The list is empty because each type still has its first version.
pub const STEPS: &[UpcastStep] = &[];

/// Converts `data` from version `from` to version `to`, one step at a time; `None` if a step is missing or fails.
#[must_use]
pub fn upcast(steps: &[UpcastStep], kind: &str, from: u32, to: u32, data: Fields) -> Option<Fields> {
    (from..to).try_fold(data, |data, version| {
        let step = steps.iter().find(|step| step.kind == kind && step.from == version)?;
        (step.convert)(data)
    })
}
