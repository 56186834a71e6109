//! Compares a copy with its source by their hashes.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use blake3::{Hash, Hasher};

use super::attributes::Attributes;
use super::copy::open_source;
use super::copy_error::CopyError;
use super::tree::Location;

/// Returns the hash of a file of the source; `None` if `should_continue` returned false. `should_continue` is called
/// with the number of bytes of each chunk.
pub(super) fn hash_source(
    from: &Location<'_>,
    attributes: &Attributes,
    should_continue: impl FnMut(u64) -> bool,
) -> Result<Option<Hash>, CopyError> {
    let file = open_source(from, attributes)?;
    hash(file, should_continue).map_err(|error| CopyError::source(&from.path(), &error))
}

/// Whether the copy on the disk has this hash; `None` if `should_continue` returned false.
pub(super) fn has_hash(
    to: &Location<'_>,
    source: Hash,
    should_continue: impl FnMut(u64) -> bool,
) -> Result<Option<bool>, CopyError> {
    let read_error = |error| CopyError::io("reading back", &to.path(), &error);
    // An entry that is not a file differs from the source. It is not opened, because opening a device can have an effect.
    if !to.directory.stat_entry(to.name).is_ok_and(|stat| Attributes::of(&stat).is_file()) {
        return Ok(Some(false));
    }
    let file = match to.directory.open_file(to.name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(false)),
        opened => opened.map_err(read_error)?,
    };
    drop_from_page_cache(&file);
    Ok(hash(file, should_continue).map_err(read_error)?.map(|copy| copy == source))
}

fn hash(mut file: File, mut should_continue: impl FnMut(u64) -> bool) -> io::Result<Option<Hash>> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 1024 * 1024];
    loop {
        let bytes = match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hasher.finalize())),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(&buffer[..bytes]);
        if !should_continue(u64::try_from(bytes).unwrap_or(u64::MAX)) {
            return Ok(None);
        }
    }
}

/// Requests that the system removes the file from the page cache, so that the comparison reads the disk.
fn drop_from_page_cache(file: &File) {
    #[cfg(target_os = "linux")]
    {
        // The system may ignore the request. Then the comparison reads the cached content.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    let _ = file;
}
