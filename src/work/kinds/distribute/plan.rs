//! The plan of a distribution: the entries of the source.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::attributes::Attributes;
use super::copy_error::CopyError;
use super::tree::Tree;

/// All entries of the source. Each directory comes before its entries, which are sorted by name.
#[derive(Debug, Default)]
pub(super) struct CopyPlan {
    pub entries: Vec<Entry>,
    /// The number of files and symlinks.
    pub files: u64,
    /// The number of bytes in all files.
    pub bytes: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// The path relative to the source. It is empty for the source itself.
    pub path: PathBuf,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Dir(Attributes),
    File(Attributes),
    /// A symlink and its target.
    Link(PathBuf),
}

impl Entry {
    /// The number of bytes to copy.
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::File(attributes) => attributes.len,
            Content::Dir(_) | Content::Link(_) => 0,
        }
    }
}

impl CopyPlan {
    /// Reads the whole tree without following symlinks. Calls `should_continue` before each entry, and returns `None`
    /// if it returns false.
    pub fn scan(source: &mut Tree, mut should_continue: impl FnMut(&Self) -> bool) -> Result<Option<Self>, CopyError> {
        let mut plan = Self::default();
        let mut pending = vec![PathBuf::new()];
        while let Some(path) = pending.pop() {
            if !should_continue(&plan) {
                return Ok(None);
            }
            let content = read_content(source, &path)?;
            if let Content::Dir(_) = content {
                let first_new = pending.len();
                add_entries(source, &path, &mut pending)?;
                // The entries are taken from the end of the list, so they are sorted in reverse.
                pending[first_new..].sort_by(|a, b| b.cmp(a));
            } else {
                plan.files += 1;
            }
            let entry = Entry { path, content };
            plan.bytes += entry.len();
            plan.entries.push(entry);
        }
        Ok(Some(plan))
    }
}

fn add_entries(source: &mut Tree, dir: &Path, paths: &mut Vec<PathBuf>) -> Result<(), CopyError> {
    let full = source.path_of(dir);
    let read_error = |error| CopyError::source(&full, &error);
    for name in source.open_directory(dir)?.names().map_err(read_error)? {
        paths.push(dir.join(name.map_err(read_error)?));
    }
    Ok(())
}

fn read_content(source: &mut Tree, entry: &Path) -> Result<Content, CopyError> {
    let full = source.path_of(entry);
    let read_error = |error| CopyError::source(&full, &error);
    if entry.as_os_str().is_empty() {
        let stat = source.open_directory(entry)?.stat().map_err(read_error)?;
        return Ok(Content::Dir(Attributes::of(&stat)));
    }
    let location = source.locate(entry)?;
    let attributes = Attributes::of(&location.directory.stat_entry(location.name).map_err(read_error)?);
    match attributes.kind {
        FileType::Directory => Ok(Content::Dir(attributes)),
        FileType::RegularFile => Ok(Content::File(attributes)),
        FileType::Symlink => location.directory.read_link(location.name).map(Content::Link).map_err(read_error),
        _ => {
            let message =
                format!("{} is neither a file, a directory nor a symlink; it can't be copied", full.display());
            Err(CopyError::fatal("unsupported_file", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_that_became_a_symlink_out_of_the_source_is_not_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = root.path().join("dir");
        for (parent, name) in [(dir.as_path(), "own"), (outside.path(), "secret")] {
            fs::create_dir_all(parent.join("sub")).unwrap();
            fs::write(parent.join("sub").join(name), b"x").unwrap();
        }
        let mut source = Tree::source(root.path().canonicalize().unwrap(), PathBuf::new());
        // At this moment `dir` has been listed, and `dir/sub` is read next.
        let replace_dir_by_symlink = |plan: &CopyPlan| {
            if plan.entries.len() == 2 {
                fs::rename(&dir, dir.with_extension("moved")).unwrap();
                symlink(outside.path(), &dir).unwrap();
            }
            true
        };
        let plan = CopyPlan::scan(&mut source, replace_dir_by_symlink).unwrap().unwrap();
        let paths: Vec<_> = plan.entries.iter().map(|entry| entry.path.as_path()).collect();
        assert_eq!(paths, ["", "dir", "dir/sub", "dir/sub/own"].map(Path::new));
        // When the path is opened from the root again, the symlink is refused.
        source.close();
        assert_eq!(source.open_directory(Path::new("dir/sub")).unwrap_err().code, "source_changed");
    }
}
