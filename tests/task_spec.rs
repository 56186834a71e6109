//! The rules of a task: given events, when a command, then events.
