//! The signal of a file that has reached the largest size that the process may write (`ulimit -f`).

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Keeps SIGXFSZ from ending the process. The write that has no room fails then, and the log reports it like a full disk.
///
/// The handler does nothing, and stays until the process ends. Programs that this process starts get the default again.
pub(super) fn ignore() -> io::Result<()> {
    signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).map(drop)
}
