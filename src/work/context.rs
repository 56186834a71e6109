//! What a handler has of the world.

/// What a handler has of the world: its input, progress, the request to cancel.
#[derive(Clone, Debug)]
pub struct Context {}

impl Context {
    /// Says how far the work has come.
    pub fn progress(&self, _fraction: impl Into<Option<f64>>, _message: impl Into<String>) {}

    /// # Errors
    /// [`super::Failure::Cancelled`] where somebody asked to cancel.
    pub fn stop_if_cancelled(&self) -> Result<(), super::Failure> {
        Ok(())
    }
}
