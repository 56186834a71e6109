//! The runtime of a client's command.

use super::failure::Failure;

/// Runs a client's command to its end, on one thread.
pub(super) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let done = runtime.block_on(command);
    // A blocking read of stdin may still be under way; the process must not wait for it.
    runtime.shutdown_background();
    done
}
