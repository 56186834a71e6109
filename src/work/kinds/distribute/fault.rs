//! What the disk says no with, as codes for programs and words for people.

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
    /// Another attempt would do no better.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false }
    }

    /// Another attempt may do better.
    pub fn passing(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: true }
    }

    /// The system refused something at `path`.
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

    /// The system refused to read something that was there when the files were counted.
    pub fn source(path: &Path, error: &io::Error) -> Self {
        let now_a_symlink = error.raw_os_error() == Some(Errno::LOOP.raw_os_error());
        let gone = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        if gone || now_a_symlink { changed(path) } else { Self::io("reading", path, error) }
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

/// The source is not what it was when its files were counted.
pub(super) fn changed(path: &Path) -> Fault {
    Fault::passing("source_changed", format!("{} changed or vanished while it was copied", path.display()))
}

/// Something else is where `wanted` has to go.
pub(super) fn conflict(path: &Path, wanted: &str) -> Fault {
    Fault::fatal("target_conflict", format!("{} is in the way: {wanted} has to go there", path.display()))
}

/// The attempt is being cut: what was begun is given up.
pub(super) fn interrupted() -> Fault {
    Fault::passing(INTERRUPTED, "the attempt was interrupted")
}
