//! What the source holds.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::attributes::Attributes;
use super::fault::Fault;
use super::tree::Tree;

/// Everything in the source: each directory before its entries, the entries by name.
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
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Dir(Attributes),
    File(Attributes),
    /// A symlink and where it leads.
    Link(PathBuf),
}

impl Entry {
    /// Bytes to copy.
    pub fn len(&self) -> u64 {
        match &self.content {
            Content::File(attributes) => attributes.len,
            Content::Dir(_) | Content::Link(_) => 0,
        }
    }
}

impl Plan {
    /// Walks the tree without following symlinks. Calls `go_on` before each entry; none if it returned false.
    pub fn survey(source: &mut Tree, mut go_on: impl FnMut(&Self) -> bool) -> Result<Option<Self>, Fault> {
        let mut plan = Self::default();
        let mut ahead = vec![PathBuf::new()];
        while let Some(path) = ahead.pop() {
            if !go_on(&plan) {
                return Ok(None);
            }
            let content = read_content(source, &path)?;
            if let Content::Dir(_) = content {
                let at = ahead.len();
                add_entries(source, &path, &mut ahead)?;
                // The next one is taken from the end.
                ahead[at..].sort_by(|a, b| b.cmp(a));
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

fn add_entries(source: &mut Tree, dir: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let full = source.path_of(dir);
    let refused = |error| Fault::source(&full, &error);
    for name in source.folder(dir)?.names().map_err(refused)? {
        paths.push(dir.join(name.map_err(refused)?));
    }
    Ok(())
}

fn read_content(source: &mut Tree, entry: &Path) -> Result<Content, Fault> {
    let full = source.path_of(entry);
    let missing = |error| Fault::source(&full, &error);
    if entry.as_os_str().is_empty() {
        let stat = source.folder(entry)?.stat().map_err(missing)?;
        return Ok(Content::Dir(Attributes::of(&stat)));
    }
    let location = source.locate(entry)?;
    let attributes = Attributes::of(&location.folder.stat_entry(location.name).map_err(missing)?);
    match attributes.kind {
        FileType::Directory => Ok(Content::Dir(attributes)),
        FileType::RegularFile => Ok(Content::File(attributes)),
        FileType::Symlink => location.folder.read_link(location.name).map(Content::Link).map_err(missing),
        _ => {
            let message =
                format!("{} is neither a file, a directory nor a symlink; it can't be copied", full.display());
            Err(Fault::fatal("unsupported_file", message))
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
        // `dir` has been listed; `dir/sub` comes next.
        let swap_in_time = |plan: &Plan| {
            if plan.entries.len() == 2 {
                fs::rename(&dir, dir.with_extension("moved")).unwrap();
                symlink(outside.path(), &dir).unwrap();
            }
            true
        };
        let plan = Plan::survey(&mut source, swap_in_time).unwrap().unwrap();
        let paths: Vec<_> = plan.entries.iter().map(|entry| entry.path.as_path()).collect();
        assert_eq!(paths, ["", "dir", "dir/sub", "dir/sub/own"].map(Path::new));
        // Reached from the root again, it is refused.
        source.close();
        assert_eq!(source.folder(Path::new("dir/sub")).unwrap_err().code, "source_changed");
    }
}
