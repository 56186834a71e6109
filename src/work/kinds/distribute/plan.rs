//! What the source holds.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use filetime::FileTime;

use super::fault::Fault;
use super::roots::join;

/// Everything in the source, each directory before what it holds, by name.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub entries: Vec<Entry>,
    /// Files and symlinks.
    pub files: u64,
    /// Bytes in files.
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// Relative to the source; empty for the source itself.
    pub path: PathBuf,
    pub what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Dir(Traits),
    File(Traits),
    Link(PathBuf),
}

/// What is kept of a file or directory beside its content, and what tells whether it is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits {
    pub len: u64,
    pub mode: u32,
    pub modified: FileTime,
    pub owner: (u32, u32),
    inode: (u64, u64),
}

impl Traits {
    pub fn of(meta: &Metadata) -> Self {
        Self {
            len: meta.len(),
            mode: meta.mode() & 0o7777,
            modified: FileTime::from_last_modification_time(meta),
            owner: (meta.uid(), meta.gid()),
            inode: (meta.dev(), meta.ino()),
        }
    }
}

impl Entry {
    /// Bytes to copy.
    pub fn len(&self) -> u64 {
        match &self.what {
            What::File(traits) => traits.len,
            What::Dir(_) | What::Link(_) => 0,
        }
    }
}

impl Plan {
    /// Walks the tree. Symlinks are taken as what they are. `go_on` is asked once per entry; none where it says no.
    pub fn survey(source: &Path, mut go_on: impl FnMut(&Self) -> bool) -> Result<Option<Self>, Fault> {
        let mut plan = Self::default();
        let mut ahead = vec![PathBuf::new()];
        while let Some(path) = ahead.pop() {
            if !go_on(&plan) {
                return Ok(None);
            }
            let full = join(source, &path);
            let what = look(&full)?;
            if let What::Dir(_) = what {
                let at = ahead.len();
                for item in fs::read_dir(&full).map_err(|error| Fault::source(&full, &error))? {
                    ahead.push(path.join(item.map_err(|error| Fault::source(&full, &error))?.file_name()));
                }
                // The next one is taken from the end.
                ahead[at..].sort_by(|a, b| b.cmp(a));
            } else {
                plan.files += 1;
            }
            let entry = Entry { path, what };
            plan.bytes += entry.len();
            plan.entries.push(entry);
        }
        Ok(Some(plan))
    }
}

fn look(path: &Path) -> Result<What, Fault> {
    let missing = |error| Fault::source(path, &error);
    let meta = path.symlink_metadata().map_err(missing)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        Ok(What::Dir(Traits::of(&meta)))
    } else if kind.is_file() {
        Ok(What::File(Traits::of(&meta)))
    } else if kind.is_symlink() {
        fs::read_link(path).map(What::Link).map_err(missing)
    } else {
        let message = format!("{} is neither a file, a directory nor a symlink; it can't be copied", path.display());
        Err(Fault::fatal("unsupported_file", message))
    }
}
