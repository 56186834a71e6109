//! Temporary entries: the name that an entry has until it is complete, and how those of a dead process are removed.
//!
//! While a file is copied, its process holds a lock on the temporary file (`flock`). The system releases the lock when the
//! process ends, however it ends. When the copy is complete, it gets its attributes and its real name, in this order and
//! with nothing between. If the process dies before that, the temporary entry stays behind. Afterwards:
//!
//! - The next attempt of the same task removes it, whatever its age.
//! - If there is no next attempt, any later distribution into the same directory removes it, after [`ABANDONED_AFTER`].
//!
//! Neither removes a file that is locked. Where the file system has no locks, or does not share them between hosts, only the
//! age protects the file of another task; every write renews it. The age is that of the last change as the system keeps it
//! (ctime), not the time of change that the copy takes over from its source (mtime).

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::attributes::{Attributes, changed_at};
use super::fault::Fault;
use super::folder::Folder;
use super::tree::Location;
use crate::task::TaskId;

/// A temporary entry of another task that has not changed for this long was abandoned.
const ABANDONED_AFTER: Duration = Duration::from_hours(1);
/// The length of a task's id in a name.
const ID_LEN: usize = 36;

/// The name of all temporary entries of one attempt. No other attempt has it, so two processes that both believe to execute
/// the task can't rename each other's half-written file.
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

/// A temporary entry of this process. It is removed when this is dropped, unless it got its real name.
#[derive(Debug)]
pub(super) struct Temporary<'a> {
    folder: &'a Folder,
    name: &'a OsStr,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    /// Makes an empty file beside `beside` and locks it.
    pub fn file(beside: &Location<'a>, name: &'a TemporaryName) -> io::Result<(File, Self)> {
        let file = beside.folder.create_file(&name.name)?;
        // Without locks, the age protects the file.
        let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok((file, Self { folder: beside.folder, name: &name.name, renamed: false }))
    }

    /// Makes a symlink beside `beside`.
    pub fn symlink(beside: &Location<'a>, name: &'a TemporaryName, leads_to: &Path) -> io::Result<Self> {
        beside.folder.make_symlink(&name.name, leads_to)?;
        Ok(Self { folder: beside.folder, name: &name.name, renamed: false })
    }

    pub const fn name(&self) -> &OsStr {
        self.name
    }

    /// Gives the entry its real name, in the directory that it is in.
    pub fn rename(mut self, to: &Location<'_>) -> Result<(), Fault> {
        self.folder.rename(self.name, to.name).map_err(|error| Fault::io("naming", &to.path(), &error))?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // The next attempt removes what can't be removed now.
            let _ = self.folder.remove(self.name);
        }
    }
}

/// Removes the temporary entries in `folder` that former attempts of this task, or dead attempts of other tasks, left.
pub(super) fn remove_leftovers(folder: &Folder, own: &TemporaryName, now: SystemTime) -> io::Result<()> {
    for name in folder.names()? {
        let name = name?;
        let Some(task) = task_of(&name).filter(|_| name != own.name) else { continue };
        if is_left_over(folder, &name, task == own.task, now) {
            // An entry that is gone already, or that may not be removed, is not in the way of the copy.
            let _ = folder.remove(&name);
        }
    }
    Ok(())
}

/// The task whose temporary entry has this name. Up to version 0.1.0, nothing followed the id.
fn task_of(name: &OsStr) -> Option<TaskId> {
    let name = name.to_str()?.strip_prefix(".taskbell-")?.strip_suffix(".tmp")?;
    let (id, attempt) = name.split_at_checked(ID_LEN)?;
    id.parse().ok().filter(|_| attempt.is_empty() || attempt.starts_with('-'))
}

fn is_left_over(folder: &Folder, name: &OsStr, own: bool, now: SystemTime) -> bool {
    let Ok(stat) = folder.stat_entry(name) else { return false };
    let is_old = || now.duration_since(changed_at(&stat)).is_ok_and(|age| age > ABANDONED_AFTER);
    let may_be_locked = Attributes::of(&stat).is_file();
    (own || is_old()) && !(may_be_locked && is_locked(folder, name))
}

/// Whether a process holds a lock on the file. One that can't be opened counts as locked.
fn is_locked(folder: &Folder, name: &OsStr) -> bool {
    let Ok(file) = folder.open_file(name) else { return true };
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
        folder: Folder,
    }

    impl Directory {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let folder = Folder::open(dir.path()).unwrap();
            Self { dir, folder }
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
            remove_leftovers(&self.folder, own, now).unwrap();
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
        let (file, temporary) = Temporary::file(&location, &mine).unwrap();
        // The time of change that it takes over from its source.
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
        let _copy = Temporary::file(&location, &mine).unwrap();
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
