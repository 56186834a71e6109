//! Errors of a distribution: a code for programs, a message for people.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use crate::work::worker::context::INTERRUPTED;
use crate::work::worker::handler::Failure;

/// Why a distribution can't go on.
#[derive(Debug)]
pub(super) struct Fault {
    pub code: &'static str,
    message: String,
    retryable: bool,
}

impl Fault {
    /// Another attempt would fail in the same way.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false }
    }

    /// Another attempt may succeed.
    pub fn retryable(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: true }
    }

    /// The system refused an operation at `path`.
    pub fn io(doing: &str, path: &Path, error: &io::Error) -> Self {
        let (code, retryable) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("disk_full", true),
            ErrorKind::PermissionDenied => ("permission_denied", false),
            ErrorKind::ReadOnlyFilesystem => ("read_only_target", false),
            _ => ("io_error", true),
        };
        let cause = error.to_string();
        let cause = cause.split(" (os error").next().unwrap_or_default();
        Self { code, message: format!("{doing} {}: {cause}", path.display()), retryable }
    }

    /// The system refused to read an entry that was there when the files were counted.
    pub fn source(path: &Path, error: &io::Error) -> Self {
        let vanished = error.kind() == ErrorKind::NotFound || is_other_type(error);
        if vanished { changed(path) } else { Self::io("reading", path, error) }
    }

    /// The system refused to open a directory of a target.
    pub fn target(path: &Path, error: &io::Error) -> Self {
        if is_other_type(error) {
            conflict(path, "a directory")
        } else {
            Self::io("opening the directory", path, error)
        }
    }

    /// The system refused to make a directory of a target.
    pub fn make_dir(path: &Path, error: &io::Error) -> Self {
        if is_other_type(error) { conflict(path, "a directory") } else { Self::io("making the directory", path, error) }
    }

    pub fn is_interrupted(&self) -> bool {
        self.code == INTERRUPTED
    }
}

impl From<Fault> for Failure {
    fn from(Fault { code, message, retryable }: Fault) -> Self {
        Self::Failed { code: code.to_owned(), message, retryable }
    }
}

/// Whether there is a symlink or a file where a directory or file was expected.
fn is_other_type(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotADirectory || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// The source is not what it was when its files were counted.
pub(super) fn changed(path: &Path) -> Fault {
    Fault::retryable("source_changed", format!("{} changed or vanished while it was copied", path.display()))
}

/// An entry of another type is where `wanted` has to go.
pub(super) fn conflict(path: &Path, wanted: &str) -> Fault {
    Fault::fatal("target_conflict", format!("{} is in the way: {wanted} has to go there", path.display()))
}

/// The attempt is interrupted, and the file under way is given up.
pub(super) fn interrupted() -> Fault {
    Fault::retryable(INTERRUPTED, "the attempt was interrupted")
}
