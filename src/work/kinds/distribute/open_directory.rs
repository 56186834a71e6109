//! An open directory. Entries are named relative to it, and no symlink is followed.
//!
//! A path is resolved again by every call that takes it: if a directory on the path becomes a symlink between two calls,
//! the second call acts on another place than the first. An open directory stays the same directory. Therefore every read
//! and write of a source or target goes through [`Folder`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};

/// Opens a directory itself, not what a symlink of that name leads to.
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Opens a directory to look up names in it, which needs no permission to list it.
#[cfg(target_os = "linux")]
const LOOKUP: OFlags = DIRECTORY.union(OFlags::PATH);
/// Elsewhere it does need the permission to list it.
#[cfg(not(target_os = "linux"))]
const LOOKUP: OFlags = DIRECTORY;
/// Opens a file itself: does not follow a symlink, does not wait for the other end of a pipe.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

impl Folder {
    /// Opens a content root. Symlinks above its last component are followed: no task can write there.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| fs::open(root, LOOKUP, Mode::empty()))?))
    }

    /// Opens a directory in this one. A symlink of that name is an error, as a file is.
    pub fn open_dir(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| fs::openat(&self.0, name, LOOKUP, Mode::empty()))?))
    }

    /// Like [`Self::open_dir`], but makes the directory if there is none.
    pub fn make_dir(&self, name: &OsStr) -> io::Result<Self> {
        match self.open_dir(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match fs::mkdirat(&self.0, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                    Err(Errno::EXIST) | Ok(()) => self.open_dir(name),
                    Err(error) => Err(error.into()),
                }
            }
            opened => opened,
        }
    }

    /// This directory, opened to be listed or changed. Needs the permission to list it.
    pub fn open_for_reading(&self) -> rustix::io::Result<OwnedFd> {
        retry_on_intr(|| fs::openat(&self.0, ".", DIRECTORY, Mode::empty()))
    }

    /// The names of all entries, in the order of the disk.
    pub fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
        let entries = Dir::new(self.open_for_reading()?)?;
        let names = entries.map(|entry| Ok(OsString::from_vec(entry?.file_name().to_bytes().to_vec())));
        Ok(names.filter(|name: &io::Result<OsString>| !name.as_ref().is_ok_and(|name| name == "." || name == "..")))
    }

    /// What the system says of this directory.
    pub fn stat(&self) -> io::Result<Stat> {
        Ok(fs::fstat(&self.0)?)
    }

    /// What the system says of an entry.
    pub fn stat_entry(&self, name: &OsStr) -> io::Result<Stat> {
        Ok(fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Changes this directory's permissions and, where given, its time of change.
    pub fn set_attributes(&self, mode: Mode, modified: Option<Timespec>) -> io::Result<()> {
        match self.open_for_reading() {
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => self.set_attributes_unread(mode, modified),
            opened => {
                let opened = opened?;
                fs::fchmod(&opened, mode)?;
                modified.map_or(Ok(()), |at| fs::futimens(&opened, &times(at)))?;
                Ok(())
            }
        }
    }

    /// Does so without the permission to list the directory; its owner may. The link leads to the directory that is open,
    /// whatever stands under its name now.
    #[cfg(target_os = "linux")]
    fn set_attributes_unread(&self, mode: Mode, modified: Option<Timespec>) -> io::Result<()> {
        let link = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        fs::chmod(&link, mode)?;
        modified.map_or(Ok(()), |at| fs::utimensat(CWD, &link, &times(at), AtFlags::empty()))?;
        Ok(())
    }

    /// Opens an entry that is expected to be a file, to read it.
    pub fn open_file(&self, name: &OsStr) -> io::Result<File> {
        Ok(retry_on_intr(|| fs::openat(&self.0, name, OFlags::RDONLY | FILE, Mode::empty()))?.into())
    }

    /// Makes a file that only its owner may read and write. An entry of that name is an error.
    pub fn create_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | FILE;
        Ok(retry_on_intr(|| fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR))?.into())
    }

    /// Where a symlink leads.
    pub fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let leads_to = fs::readlinkat(&self.0, name, Vec::new())?;
        Ok(OsStr::from_bytes(leads_to.to_bytes()).into())
    }

    pub fn make_symlink(&self, name: &OsStr, leads_to: &Path) -> io::Result<()> {
        Ok(fs::symlinkat(leads_to, &self.0, name)?)
    }

    pub fn set_symlink_time(&self, name: &OsStr, modified: Timespec) -> io::Result<()> {
        Ok(fs::utimensat(&self.0, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Renames an entry inside this directory. Replaces a file or symlink of the new name.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(fs::renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes an entry that is not a directory.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }
}

/// The same time for the last change and the last access.
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
        let folder = Folder::open(root.path()).unwrap().open_dir("dir".as_ref()).unwrap();
        std::fs::rename(&dir, root.path().join("moved")).unwrap();
        symlink(outside.path(), &dir).unwrap();
        let before = outside.path().metadata().unwrap();
        let old = Timespec { tv_sec: 1_600_000_000, tv_nsec: 0 };
        folder.set_attributes_unread(Mode::from_raw_mode(0o311), Some(old)).unwrap();
        let moved = root.path().join("moved").metadata().unwrap();
        assert_eq!((moved.permissions().mode() & 0o7777, moved.mtime()), (0o311, 1_600_000_000));
        let after = outside.path().metadata().unwrap();
        assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()));
    }
}
