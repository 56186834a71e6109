//! Compares a copy with its source, by their hashes.

use std::fs::File;
use std::io::{self, ErrorKind, Read};

use blake3::{Hash, Hasher};

use super::attributes::Attributes;
use super::fault::Fault;
use super::put::open_source;
use super::tree::Location;

/// The hash of a file of the source; none if `go_on` returned false. `go_on` is called with the bytes of each chunk.
pub(super) fn hash_source(
    from: &Location<'_>,
    attributes: &Attributes,
    go_on: impl FnMut(u64) -> bool,
) -> Result<Option<Hash>, Fault> {
    let file = open_source(from, attributes)?;
    hash(file, go_on).map_err(|error| Fault::source(&from.path(), &error))
}

/// Whether the copy, as the disk has it, has this hash; none if `go_on` returned false.
pub(super) fn has_hash(to: &Location<'_>, source: Hash, go_on: impl FnMut(u64) -> bool) -> Result<Option<bool>, Fault> {
    let reading = |error| Fault::io("reading back", &to.path(), &error);
    // Anything but a file differs, and is not opened: a device may act on that.
    if !to.folder.stat_entry(to.name).is_ok_and(|stat| Attributes::of(&stat).is_file()) {
        return Ok(Some(false));
    }
    let file = match to.folder.open_file(to.name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(false)),
        opened => opened.map_err(reading)?,
    };
    drop_cached(&file);
    Ok(hash(file, go_on).map_err(reading)?.map(|copy| copy == source))
}

fn hash(mut file: File, mut go_on: impl FnMut(u64) -> bool) -> io::Result<Option<Hash>> {
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

/// Asks the system to drop the file from the page cache, so that the comparison reads the disk.
fn drop_cached(file: &File) {
    #[cfg(target_os = "linux")]
    {
        // Only advice: a system that ignores it still compares contents.
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    let _ = file;
}
