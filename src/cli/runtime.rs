//! The async runtime of the commands that are clients of a server.

use super::command_error::CommandError;

/// Runs the command on the current thread until it ends.
///
/// # Errors
/// The runtime can't be created, or the command failed.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, CommandError>>) -> Result<T, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CommandError::failed(format!("no runtime: {error}")))?;
    let result = runtime.block_on(command);
    // A thread may still be blocked in a read of stdin. The process ends without waiting for that thread.
    runtime.shutdown_background();
    result
}
