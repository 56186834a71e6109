//! A source or target: a directory tree inside a content root, reached from the root without following a symlink.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::fault::Fault;
use super::folder::Folder;

/// A source or target. Paths of its entries are relative to its top; the empty path is the top itself.
#[derive(Debug)]
pub(super) struct Tree {
    /// Canonical.
    root: PathBuf,
    /// The way from the content root to the top; empty where the root is the top.
    inside: PathBuf,
    /// The path of the top, for messages.
    top: Arc<Path>,
    /// What it means that a directory can't be opened.
    fault: ToFault,
    /// The directory that was opened last: most entries lie in the same directory as the one before.
    last: Option<(PathBuf, Folder)>,
}

/// An entry, by its name in an open directory. Nothing need be there yet.
#[derive(Debug)]
pub(super) struct Location<'a> {
    pub folder: &'a Folder,
    pub name: &'a OsStr,
    top: Arc<Path>,
    entry: &'a Path,
}

impl Location<'_> {
    /// For messages.
    pub fn path(&self) -> PathBuf {
        self.top.join(self.entry)
    }
}

/// Opens one directory in another.
type Open = fn(&Folder, &OsStr) -> io::Result<Folder>;
/// Says what an error at a path means.
type ToFault = fn(&Path, &io::Error) -> Fault;

impl Tree {
    pub fn source(root: PathBuf, inside: PathBuf) -> Self {
        Self::new(root, inside, Fault::source)
    }

    pub fn target(root: PathBuf, inside: PathBuf) -> Self {
        Self::new(root, inside, Fault::target)
    }

    fn new(root: PathBuf, inside: PathBuf, fault: ToFault) -> Self {
        let top = join(&root, &inside).into();
        Self { root, inside, top, fault, last: None }
    }

    /// Where an entry is, for messages.
    pub fn path_of(&self, entry: &Path) -> PathBuf {
        join(&self.top, entry)
    }

    /// Closes the directory that was opened last: the next one is reached from the content root again.
    pub fn close(&mut self) {
        self.last = None;
    }

    /// Opens a directory of the tree.
    pub fn folder(&mut self, dir: &Path) -> Result<&Folder, Fault> {
        self.walk(dir, Folder::open_dir, self.fault)
    }

    /// Opens a directory of the tree; makes it, and those above it, where they are missing.
    pub fn make_folder(&mut self, dir: &Path) -> Result<&Folder, Fault> {
        self.walk(dir, Folder::make_dir, Fault::make_dir)
    }

    /// Opens the directory that holds `entry`, which is not the top.
    pub fn locate<'a>(&'a mut self, entry: &'a Path) -> Result<Location<'a>, Fault> {
        let top = Arc::clone(&self.top);
        let (Some(dir), Some(name)) = (entry.parent(), entry.file_name()) else {
            return Err(no_name(&top.join(entry)));
        };
        Ok(Location { folder: self.folder(dir)?, name, top, entry })
    }

    /// Starts at the directory that was opened last if it lies on the way, else at the content root.
    fn walk(&mut self, dir: &Path, open: Open, fault: ToFault) -> Result<&Folder, Fault> {
        let near = self.last.take().filter(|(at, _)| dir.starts_with(at));
        let (at, mut folder) = if let Some(near) = near {
            near
        } else {
            let root = Folder::open(&self.root).map_err(|error| fault(&self.root, &error))?;
            (PathBuf::new(), descend((root, self.root.clone()), &self.inside, open, fault)?)
        };
        let rest = dir.strip_prefix(&at).unwrap_or(dir);
        if rest.as_os_str().is_empty() {
            return Ok(&self.last.insert((at, folder)).1);
        }
        folder = descend((folder, self.path_of(&at)), rest, open, fault)?;
        Ok(&self.last.insert((dir.to_owned(), folder)).1)
    }
}

/// Goes down from a directory and its path, one directory of `way` at a time.
fn descend((mut folder, mut path): (Folder, PathBuf), way: &Path, open: Open, fault: ToFault) -> Result<Folder, Fault> {
    for part in way.components() {
        path.push(part);
        let Component::Normal(name) = part else { return Err(no_name(&path)) };
        folder = open(&folder, name).map_err(|error| fault(&path, &error))?;
    }
    Ok(folder)
}

/// Like [`Path::join`], but joining nothing adds no slash.
pub(super) fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

/// Paths of entries come from the disk and from checked input, so none ends up here.
fn no_name(path: &Path) -> Fault {
    Fault::fatal("io_error", format!("{} is not the name of an entry", path.display()))
}
