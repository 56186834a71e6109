//! A source or target: a directory tree inside a content root. Its entries are opened from the root, without following
//! symlinks.

use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::copy_error::CopyError;
use super::open_directory::OpenDirectory;

/// A source or target. The paths of its entries are relative to its top directory. The empty path is the top directory
/// itself.
#[derive(Debug)]
pub(super) struct Tree {
    /// The canonical path of the content root.
    root: PathBuf,
    /// The path from the content root to the top directory. It is empty if the root is the top directory.
    path_in_root: PathBuf,
    /// The path of the top directory, for messages.
    top: Arc<Path>,
    /// Makes the fault if a directory can't be opened.
    to_error: ToError,
    /// The directory that was opened last, and its path. Most entries are in the same directory as the entry before.
    last_opened: Option<(PathBuf, OpenDirectory)>,
}

/// The location of an entry: an open directory and a name in it. The entry need not exist.
#[derive(Debug)]
pub(super) struct Location<'a> {
    pub directory: &'a OpenDirectory,
    pub name: &'a OsStr,
    top: Arc<Path>,
    entry: &'a Path,
}

impl Location<'_> {
    /// Returns the path of the entry, for messages.
    pub fn path(&self) -> PathBuf {
        self.top.join(self.entry)
    }
}

/// Opens one directory in another.
type Open = fn(&OpenDirectory, &OsStr) -> io::Result<OpenDirectory>;
/// Makes the fault for an error at a path.
type ToError = fn(&Path, &io::Error) -> CopyError;

impl Tree {
    pub fn source(root: PathBuf, path_in_root: PathBuf) -> Self {
        Self::new(root, path_in_root, CopyError::source)
    }

    pub fn target(root: PathBuf, path_in_root: PathBuf) -> Self {
        Self::new(root, path_in_root, CopyError::target)
    }

    fn new(root: PathBuf, path_in_root: PathBuf, to_error: ToError) -> Self {
        let top = join(&root, &path_in_root).into();
        Self { root, path_in_root, top, to_error, last_opened: None }
    }

    /// Returns the path of an entry, for messages.
    pub fn path_of(&self, entry: &Path) -> PathBuf {
        join(&self.top, entry)
    }

    /// Closes the directory that was opened last. The next directory is opened from the content root again.
    pub fn close(&mut self) {
        self.last_opened = None;
    }

    /// Opens a directory of the tree.
    pub fn open_directory(&mut self, dir: &Path) -> Result<&OpenDirectory, CopyError> {
        self.walk(dir, OpenDirectory::open_subdirectory, self.to_error)
    }

    /// Opens a directory of the tree. Makes it and the directories above it if they are missing.
    pub fn create_directory(&mut self, dir: &Path) -> Result<&OpenDirectory, CopyError> {
        self.walk(dir, OpenDirectory::open_or_create_subdirectory, CopyError::create_directory)
    }

    /// Opens the directory of `entry`. Fails if `entry` is the top directory.
    pub fn locate<'a>(&'a mut self, entry: &'a Path) -> Result<Location<'a>, CopyError> {
        let top = Arc::clone(&self.top);
        let (Some(dir), Some(name)) = (entry.parent(), entry.file_name()) else {
            return Err(no_name(&top.join(entry)));
        };
        Ok(Location { directory: self.open_directory(dir)?, name, top, entry })
    }

    /// Opens each directory on the path. Begins at the directory that was opened last if it is on the path, and
    /// otherwise at the content root.
    fn walk(&mut self, dir: &Path, open: Open, to_error: ToError) -> Result<&OpenDirectory, CopyError> {
        let last_on_path = self.last_opened.take().filter(|(at, _)| dir.starts_with(at));
        let (at, mut directory) = if let Some(last) = last_on_path {
            last
        } else {
            let root = OpenDirectory::open(&self.root).map_err(|error| to_error(&self.root, &error))?;
            (PathBuf::new(), descend((root, self.root.clone()), &self.path_in_root, open, to_error)?)
        };
        let rest = dir.strip_prefix(&at).unwrap_or(dir);
        if rest.as_os_str().is_empty() {
            return Ok(&self.last_opened.insert((at, directory)).1);
        }
        directory = descend((directory, self.path_of(&at)), rest, open, to_error)?;
        Ok(&self.last_opened.insert((dir.to_owned(), directory)).1)
    }
}

/// Opens the directories of `rest` one by one, beginning at a directory and its path.
fn descend(
    (mut directory, mut path): (OpenDirectory, PathBuf),
    rest: &Path,
    open: Open,
    to_error: ToError,
) -> Result<OpenDirectory, CopyError> {
    for part in rest.components() {
        path.push(part);
        let Component::Normal(name) = part else { return Err(no_name(&path)) };
        directory = open(&directory, name).map_err(|error| to_error(&path, &error))?;
    }
    Ok(directory)
}

/// Like [`Path::join`], but doesn't add a slash if `rest` is empty.
pub(super) fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

/// The fault for a path without a name. It doesn't occur, because paths of entries come from the disk and from checked
/// input.
fn no_name(path: &Path) -> CopyError {
    CopyError::fatal("io_error", format!("{} is not the name of an entry", path.display()))
}
