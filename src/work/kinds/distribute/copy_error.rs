//! The errors of a distribution. Each has a code for programs and a message for people.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::io::Errno;

use crate::work::worker::context::INTERRUPTED;
use crate::work::worker::handler::Failure;

/// An error after which the attempt can't continue.
#[derive(Debug)]
pub(super) struct CopyError {
    pub code: &'static str,
    message: String,
    retryable: bool,
}

impl CopyError {
    /// Makes an error that every other attempt would have too.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false }
    }

    /// Makes an error after which another attempt may succeed.
    pub fn retryable(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: true }
    }

    /// The system has refused an operation at `path`. `operation` begins the message, for example "reading".
    pub fn io(operation: &str, path: &Path, error: &io::Error) -> Self {
        let (code, retryable) = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => ("disk_full", true),
            ErrorKind::PermissionDenied => ("permission_denied", false),
            ErrorKind::ReadOnlyFilesystem => ("read_only_target", false),
            _ => ("io_error", true),
        };
        let cause = error.to_string();
        let cause = cause.split(" (os error").next().unwrap_or_default();
        Self { code, message: format!("{operation} {}: {cause}", path.display()), retryable }
    }

    /// The system has refused to read an entry of the source. The entry existed when the plan was made.
    pub fn source(path: &Path, error: &io::Error) -> Self {
        let vanished = error.kind() == ErrorKind::NotFound || is_other_type(error);
        if vanished { source_changed(path) } else { Self::io("reading", path, error) }
    }

    /// The system has refused to open a directory of a target.
    pub fn target(path: &Path, error: &io::Error) -> Self {
        if is_other_type(error) {
            target_conflict(path, "a directory")
        } else {
            Self::io("opening the directory", path, error)
        }
    }

    /// The system has refused to make a directory of a target.
    pub fn create_directory(path: &Path, error: &io::Error) -> Self {
        if is_other_type(error) {
            target_conflict(path, "a directory")
        } else {
            Self::io("making the directory", path, error)
        }
    }

    pub fn is_interrupted(&self) -> bool {
        self.code == INTERRUPTED
    }
}

impl From<CopyError> for Failure {
    fn from(CopyError { code, message, retryable }: CopyError) -> Self {
        Self::Failed { code: code.to_owned(), message, retryable }
    }
}

/// Whether the error means that the entry is a symlink or a file and not the expected directory or file.
fn is_other_type(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotADirectory || error.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// The source has changed since the plan was made.
pub(super) fn source_changed(path: &Path) -> CopyError {
    CopyError::retryable("source_changed", format!("{} changed or vanished while it was copied", path.display()))
}

/// The path of the new entry, which `wanted` describes, has an entry of another type.
pub(super) fn target_conflict(path: &Path, wanted: &str) -> CopyError {
    CopyError::fatal("target_conflict", format!("{} exists and is not {wanted}", path.display()))
}

/// The attempt was interrupted, and the current file is not complete.
pub(super) fn interrupted() -> CopyError {
    CopyError::retryable(INTERRUPTED, "the attempt was interrupted")
}
