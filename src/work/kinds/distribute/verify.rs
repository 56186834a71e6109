//! Whether a copy is what its source is.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use blake3::{Hash, Hasher};

use super::fault::Fault;
use super::plan::Traits;
use super::put::{open_in_place, open_source};

/// The hash of a file of the source; none where `go_on` said no.
pub(super) fn of_source(from: &Path, traits: &Traits, go_on: impl FnMut(u64) -> bool) -> Result<Option<Hash>, Fault> {
    let file = open_source(from, traits)?;
    digest(file, go_on).map_err(|error| Fault::source(from, &error))
}

/// Whether the copy, as the disk has it, has this hash; none where `go_on` said no.
pub(super) fn is_copy(to: &Path, source: Hash, go_on: impl FnMut(u64) -> bool) -> Result<Option<bool>, Fault> {
    let reading = |error| Fault::io("reading back", to, &error);
    // What took its place meanwhile is not the copy: a symlink is not followed, a pipe not waited for.
    if !to.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
        return Ok(Some(false));
    }
    let file = match open_in_place(to) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(false)),
        opened => opened.map_err(reading)?,
    };
    forget_cached(&file);
    Ok(digest(file, go_on).map_err(reading)?.map(|copy| copy == source))
}

fn digest(mut file: File, mut go_on: impl FnMut(u64) -> bool) -> std::io::Result<Option<Hash>> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finalize())),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(&buffer[..bytes]);
        if !go_on(u64::try_from(bytes).unwrap_or(u64::MAX)) {
            return Ok(None);
        }
    }
}

/// What is compared should come from the disk, not from the memory that it was written from.
fn forget_cached(file: &File) {
    #[cfg(target_os = "linux")]
    {
        // Only advice: where the system doesn't take it, the comparison is still one of contents.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    let _ = file;
}
