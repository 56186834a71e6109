//! Reads the API token from the file that `--token-file` names.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::command_error::CommandError;
use super::console;

/// The largest file, in bytes. A JWT has a few KiB at most.
const FILE_MAX: u64 = 64 * 1024;
/// The permission of users who are neither the owner nor in the group to read a file.
const OTHERS_READ: u32 = 0o004;

/// The token in this file, without the line break at its end. Warns on stderr if all users of this machine can read the file.
///
/// # Errors
/// The file can't be read, is empty or too large: a usage error (exit code 2).
pub(super) fn read(path: &Path) -> Result<String, CommandError> {
    let refuse = |reason: &str| CommandError::usage(format!("--token-file {}: {reason}", path.display()));
    let (text, mode) = read_text(path).map_err(|error| refuse(&error.to_string()))?;
    let token = text.trim_end_matches(['\r', '\n']);
    if token.is_empty() {
        return Err(refuse("the file is empty"));
    }
    if text.len() as u64 > FILE_MAX {
        return Err(refuse("the file has more than 64 KiB"));
    }
    if mode & OTHERS_READ != 0 {
        let path = path.display();
        console::print_to_stderr(&format!("warning: all users of this machine can read {path}; use `chmod 600`"));
    }
    Ok(token.to_owned())
}

/// The text of the file, and its permissions. Of a file that is too large, one byte more than the limit.
fn read_text(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut text = String::new();
    file.take(FILE_MAX + 1).read_to_string(&mut text)?;
    Ok((text, mode))
}
