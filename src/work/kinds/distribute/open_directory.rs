//! Access to the entries of an open directory, without following symlinks.
//!
//! The system resolves a path again in each call. If a directory on the path is replaced by a symlink between two
//! calls, the second call reads or writes somewhere else. An open directory always stays the same directory. Therefore
//! all reads and writes of a source or target use [`OpenDirectory`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

/// The flags that open a directory, and fail if the name is a symlink.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// The flags that open a directory to look up names in it. This needs no permission to list the directory.
#[cfg(target_os = "linux")]
const LOOKUP: OFlags = DIRECTORY.union(OFlags::PATH);
/// As on Linux, but this needs the permission to list the directory.
#[cfg(not(target_os = "linux"))]
const LOOKUP: OFlags = DIRECTORY;
/// The flags that open a file. They don't follow a symlink, and don't wait for the other end of a pipe.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open directory. Names are those of its entries.
#[derive(Debug)]
pub(super) struct OpenDirectory(OwnedFd);

impl OpenDirectory {
    /// Opens a content root. Symlinks above the last component of its path are followed, which is safe because no task
    /// can write there.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| fs::open(root, LOOKUP, Mode::empty()))?))
    }

    /// Opens a directory in this one. Fails if the entry is a symlink or a file.
    pub fn open_subdirectory(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| fs::openat(&self.0, name, LOOKUP, Mode::empty()))?))
    }

    /// Like [`Self::open_subdirectory`], but makes the directory if there is none.
    pub fn open_or_create_subdirectory(&self, name: &OsStr) -> io::Result<Self> {
        match self.open_subdirectory(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::mkdirat(&self.0, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                    Err(Errno::EXIST) | Ok(()) => self.open_subdirectory(name),
                    Err(error) => Err(error.into()),
                }
            }
            opened => opened,
        }
    }

    /// Opens this directory again, to list or change it. This needs the permission to list it.
    pub fn open_for_reading(&self) -> rustix::io::Result<OwnedFd> {
        retry_on_intr(|| fs::openat(&self.0, ".", DIRECTORY, Mode::empty()))
    }

    /// Returns the names of all entries, in the order of the file system.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
        let entries = Dir::new(self.open_for_reading()?)?;
        let names = entries.map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())));
        Ok(names.filter(|name: &io::Result<OsString>| !name.as_ref().is_ok_and(|name| name == "." || name == "..")))
    }

    /// Returns the status of this directory.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    /// Returns the status of an entry.
    pub fn stat_entry(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets this directory's permissions and, if `modified` is given, its modification time.
    pub fn set_attributes(&self, mode: Mode, modified: Option<Timespec>) -> io::Result<()> {
        match self.open_for_reading() {
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => self.set_attributes_by_link(mode, modified),
            opened => {
                let opened = opened?;
                fs::fchmod(&opened, mode)?;
                modified.map_or(Ok(()), |at| fs::futimens(&opened, &times(at)))?;
                Ok(())
            }
        }
    }

    /// Does the same without the permission to list the directory. Its owner is allowed to do this. The link in `/proc`
    /// refers to the open directory, even if its name refers to another entry now.
    #[cfg(target_os = "linux")]
    fn set_attributes_by_link(&self, mode: Mode, modified: Option<Timespec>) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        fs::chmod(&link, mode)?;
        modified.map_or(Ok(()), |at| fs::utimensat(CWD, &link, &times(at), AtFlags::empty()))?;
        Ok(())
    }

    /// Opens an entry to read it. The entry should be a file.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        Ok(retry_on_intr(|| fs::openat(&self.0, name, OFlags::RDONLY | FILE, Mode::empty()))?.into())
    }

    /// Makes a file that only its owner may read and write. Fails if there is an entry with this name.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE;
        Ok(retry_on_intr(|| fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR))?.into())
    }

    /// Returns the target of a symlink.
    pub fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let link_target = fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsStr::from_bytes(link_target.to_bytes()).into())
    }

    pub fn make_symlink(&self, name: &OsStr, link_target: &Path) -> io::Result<()> {
        Ok(fs::symlinkat(link_target, &self.0, name)?)
    }

    pub fn set_symlink_time(&self, name: &OsStr, modified: Timespec) -> io::Result<()> {
        Ok(fs::utimensat(&self.0, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames an entry inside this directory. Replaces a file or symlink that has the new name.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes an entry that is not a directory.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

/// Makes the times of an entry: the modification time and the access time are equal.
pub(super) const fn times(at: Timespec) -> Timestamps {
    Timestamps { last_access: at, last_modification: at }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn the_attributes_of_a_directory_that_may_not_be_listed_are_those_of_the_open_one() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let dir = root.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        let directory = OpenDirectory::open(root.path()).unwrap().open_subdirectory("dir".as_ref()).unwrap();
        std::fs::rename(&dir, root.path().join("moved")).unwrap();
        symlink(outside.path(), &dir).unwrap();
        let before = outside.path().metadata().unwrap();
        let old = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
        directory.set_attributes_by_link(Mode::from_raw_mode(0o311), Some(old)).unwrap();
        let moved = root.path().join("moved").metadata().unwrap();
        assert_eq!((moved.permissions().mode() & 0o7777, moved.mtime()), (0o311, 1_600_000_000));
        let after = outside.path().metadata().unwrap();
        assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()));
    }
}
