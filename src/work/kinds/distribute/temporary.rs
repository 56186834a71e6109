//! Temporary entries: a copy has a temporary name until it is complete. This file also removes the temporary entries of
//! processes that have died.
//!
//! During the copy of a file, the process holds a lock on the temporary file (`flock`). The system releases the lock
//! when the process ends for any reason. When the copy is complete, it gets its attributes and immediately afterwards
//! its final name. If the process dies before that, the temporary entry remains. Afterwards:
//!
//! - The next attempt of the same task removes the entry, whatever its age.
//! - If there is no next attempt, any later distribution into the same directory removes the entry after
//!   [`ABANDONED_AFTER`].
//!
//! Neither of them removes a file that is locked. If the file system has no locks, or doesn't share them between hosts,
//! only the age protects the file of another task. The age is counted from the last change that the system has recorded
//! (ctime), so every write resets it. The modification time (mtime) is not used, because the copy gets the one of its
//! source.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::attributes::{Attributes, changed_at};
use super::copy_error::CopyError;
use super::open_directory::OpenDirectory;
use super::tree::Location;
use crate::task::TaskId;

/// If a temporary entry of another task has not changed for this long, its process is assumed to be dead.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);
/// The length of the task's id in the name of a temporary entry.
const ID_LEN: usize = 36;

/// The name of all temporary entries of one attempt. Each attempt has another name. So if two processes execute
/// attempts of the same task at the same time, neither renames an incomplete file of the other.
#[derive(Debug)]
pub(super) struct TemporaryName {
    task: TaskId,
    name: OsString,
}

impl TemporaryName {
    pub fn new(task: TaskId) -> Self {
        Self { task, name: format!(".taskbell-{task}-{:016x}.tmp", fastrand::u64(..)).into() }
    }
}

/// A temporary entry of this process. When this value is dropped, the entry is removed, unless it has got its final name.
#[derive(Debug)]
pub(super) struct TemporaryEntry<'a> {
    directory: &'a OpenDirectory,
    name: &'a OsStr,
    is_renamed: bool,
}

impl<'a> TemporaryEntry<'a> {
    /// Makes an empty file in the directory of `real` and locks it.
    pub fn file(real: &Location<'a>, name: &'a TemporaryName) -> io::Result<(File, Self)> {
        let file = real.directory.create_file(&name.name)?;
        // If the file system has no locks, the age protects the file.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok((file, Self { directory: real.directory, name: &name.name, is_renamed: false }))
    }

    /// Makes a symlink in the directory of `real`.
    pub fn symlink(real: &Location<'a>, name: &'a TemporaryName, link_target: &Path) -> io::Result<Self> {
        real.directory.make_symlink(&name.name, link_target)?;
        Ok(Self { directory: real.directory, name: &name.name, is_renamed: false })
    }

    pub const fn name(&self) -> &OsStr {
        self.name
    }

    /// Gives the entry its final name, in the same directory.
    pub fn rename(mut self, to: &Location<'_>) -> Result<(), CopyError> {
        self.directory
            .rename(self.name, to.name)
            .map_err(|error| CopyError::io("renaming the temporary file to", &to.path(), &error))?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for TemporaryEntry<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            // If this fails, the next attempt removes the entry.
            let _ = self.directory.remove(self.name);
        }
    }
}

/// Removes temporary entries in `directory`: those of earlier attempts of this task, and those of attempts of other
/// tasks whose processes have died.
pub(super) fn remove_leftovers(directory: &OpenDirectory, own: &TemporaryName, now: SystemTime) -> io::Result<()> {
    for name in directory.names()? {
        let name = name?;
        let Some(task) = task_of(&name).filter(|_| name != own.name) else { continue };
        if is_left_over(directory, &name, task == own.task, now) {
            // If this fails, the entry remains, which doesn't disturb the copy.
            let _ = directory.remove(&name);
        }
    }
    Ok(())
}

/// Returns the task whose temporary entry has this name. The part after the id may be missing: development versions
/// before 0.1.0 wrote such names.
fn task_of(name: &OsStr) -> Option<TaskId> {
    let name = name.to_str()?.strip_prefix(".taskbell-")?.strip_suffix(".tmp")?;
    let (id, attempt) = name.split_at_checked(ID_LEN)?;
    id.parse().ok().filter(|_| attempt.is_empty() || attempt.starts_with('-'))
}

/// Whether the entry may be removed. `own` means that it belongs to the same task.
fn is_left_over(directory: &OpenDirectory, name: &OsStr, own: bool, now: SystemTime) -> bool {
    let Ok(stat) = directory.stat_entry(name) else { return false };
    let is_old = || now.duration_since(changed_at(&stat)).is_ok_and(|age| age > ABANDONED_AFTER);
    let may_be_locked = Attributes::of(&stat).is_file();
    (own || is_old()) && !(may_be_locked && is_locked(directory, name))
}

/// Whether a process holds a lock on the file. A file that can't be opened counts as locked.
fn is_locked(directory: &OpenDirectory, name: &OsStr) -> bool {
    let Ok(file) = directory.open_file(name) else { return true };
    flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::super::tree::Tree;
    use super::*;

    struct Directory {
        dir: TempDir,
        directory: OpenDirectory,
    }

    impl Directory {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let directory = OpenDirectory::open(dir.path()).unwrap();
            Self { dir, directory }
        }

        fn tree(&self) -> Tree {
            Tree::target(self.dir.path().canonicalize().unwrap(), PathBuf::new())
        }

        fn file(&self, name: impl AsRef<OsStr>) -> File {
            File::create(self.dir.path().join(name.as_ref())).unwrap()
        }

        fn has(&self, name: impl AsRef<OsStr>) -> bool {
            self.dir.path().join(name.as_ref()).symlink_metadata().is_ok()
        }

        fn remove_leftovers(&self, own: &TemporaryName, now: SystemTime) {
            remove_leftovers(&self.directory, own, now).unwrap();
        }
    }

    fn name(last: u8) -> TemporaryName {
        TemporaryName::new(format!("01a2040b-3892-71f4-8d6b-ab3e5e27a97{last}").parse().unwrap())
    }

    fn in_two_hours() -> SystemTime {
        SystemTime::now() + 2 * ABANDONED_AFTER
    }

    #[test]
    fn a_file_that_is_about_to_be_renamed_is_not_removed_by_another_task() {
        let directory = Directory::new();
        let (mine, other) = (name(1), name(2));
        let mut tree = directory.tree();
        let location = tree.locate("file".as_ref()).unwrap();
        let (file, temporary) = TemporaryEntry::file(&location, &mine).unwrap();
        // A copy gets the modification time of its source.
        let old = filetime::FileTime::from_unix_time(1_600_000_000, 0);
        filetime::set_file_handle_times(&file, Some(old), Some(old)).unwrap();
        directory.remove_leftovers(&other, SystemTime::now());
        temporary.rename(&location).unwrap();
        assert!(directory.has("file"));
    }

    #[test]
    fn a_file_whose_process_lives_stays_however_long_it_takes() {
        let directory = Directory::new();
        let (mine, other, next) = (name(1), name(2), name(1));
        let mut tree = directory.tree();
        let location = tree.locate("file".as_ref()).unwrap();
        let _copy = TemporaryEntry::file(&location, &mine).unwrap();
        for remover in [&other, &next] {
            directory.remove_leftovers(remover, in_two_hours());
            assert!(directory.has(&mine.name));
        }
    }

    #[test]
    fn entries_of_a_dead_process_are_removed_by_another_task_after_an_hour() {
        let directory = Directory::new();
        let (left, left_link, other) = (name(1), name(3), name(2));
        let former = ".taskbell-01a2040b-3892-71f4-8d6b-ab3e5e27a974.tmp";
        drop((directory.file(&left.name), directory.file(former)));
        symlink("nowhere", directory.dir.path().join(&left_link.name)).unwrap();
        directory.remove_leftovers(&other, SystemTime::now());
        assert!(directory.has(&left.name) && directory.has(&left_link.name) && directory.has(former));
        directory.remove_leftovers(&other, in_two_hours());
        assert_eq!(fs::read_dir(directory.dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_next_attempt_of_a_task_removes_what_its_former_one_left_at_once() {
        let directory = Directory::new();
        let (left, next) = (name(1), name(1));
        drop(directory.file(&left.name));
        directory.remove_leftovers(&next, SystemTime::now());
        assert!(!directory.has(&left.name));
    }

    #[test]
    fn files_that_only_look_like_temporary_ones_stay() {
        let directory = Directory::new();
        let id = "01a2040b-3892-71f4-8d6b-ab3e5e27a971";
        let names = [
            format!(".taskbell-{id}x.tmp"),
            format!(".taskbell-{id}"),
            format!("taskbell-{id}.tmp"),
            ".taskbell-notes.tmp".to_owned(),
            format!(".taskbell-{}é.tmp", &id[..35]),
        ];
        for name in &names {
            drop(directory.file(name));
        }
        directory.remove_leftovers(&name(1), in_two_hours());
        assert!(names.iter().all(|name| directory.has(name)));
    }
}
