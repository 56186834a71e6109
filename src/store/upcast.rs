//! Converts the data of an old event to the current version of its type. One step converts one version to the next version;
//! several steps in a row lead to the current version.

use serde_json::Value;

/// Converts the data of one version of a type to the next version.
#[derive(Clone, Copy)]
pub struct UpcastStep {
    /// The type.
    pub kind: &'static str,
    /// The version that the step reads. The step returns version `from + 1`.
    pub from: u32,
    /// Converts `data`; returns `None` if `data` is not of version `from`.
    pub convert: fn(Value) -> Option<Value>,
}

/// All steps. The list is empty because each type still has its first version.
pub const STEPS: &[UpcastStep] = &[];

/// Converts `data` from version `from` to version `to`, one step at a time; `None` if a step is missing or fails.
#[must_use]
pub fn upcast(steps: &[UpcastStep], kind: &str, from: u32, to: u32, data: Value) -> Option<Value> {
    (from..to).try_fold(data, |data, version| {
        let step = steps.iter().find(|step| step.kind == kind && step.from == version)?;
        (step.convert)(data)
    })
}
