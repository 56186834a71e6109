//! Old events in today's shape. A step knows one version and makes the next of it; a chain of steps leads to the current one.

use serde_json::Value;

/// One version's way to the next.
#[derive(Clone, Copy)]
pub struct Step {
    /// The type.
    pub kind: &'static str,
    /// The version that it reads; it makes the one after.
    pub from: u32,
    /// The change of `data`. A `None` says that `data` isn't of that version.
    pub up: fn(Value) -> Option<Value>,
}

/// Every step there is, oldest first for each type. There is no old version yet.
pub const STEPS: &[Step] = &[];

/// `data` of version `from`, step by step in the shape of version `to`; none where a step is missing or fails.
#[must_use]
pub fn upcast(steps: &[Step], kind: &str, from: u32, to: u32, data: Value) -> Option<Value> {
    (from..to).try_fold(data, |data, version| {
        let step = steps.iter().find(|step| step.kind == kind && step.from == version)?;
        (step.up)(data)
    })
}
