//! The attributes of a file, directory or symlink. A copy gets some of them, and they show whether a file has changed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Dev, FileType, Mode, Nsecs, Stat, Timespec};

/// The attributes of one entry of a directory. If two are equal, they belong to the same entry, which has not changed
/// in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub kind: FileType,
    /// The length in bytes.
    pub len: u64,
    /// The permissions, with the set-user, set-group and sticky bits.
    pub mode: Mode,
    /// When the content was last changed (mtime).
    pub modified: Timespec,
    /// The ids of the user and the group.
    owner: (u32, u32),
    inode: (Dev, u64),
}

impl Attributes {
    pub fn of(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            len: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: Mode::from_raw_mode(stat.st_mode),
            modified: Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: Nsecs::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            },
            owner: (stat.st_uid, stat.st_gid),
            inode: (stat.st_dev, stat.st_ino),
        }
    }

    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// Returns the mode that a copy gets. `copy` are the attributes that the copy has now. The mode is that of the
    /// source, but the set-user and set-group bits are removed if the copy has another owner. With these bits a program
    /// runs with the rights of the file's owner, so a copy that root has made would run with root's rights.
    pub fn mode_of_copy(&self, copy: &Self) -> Mode {
        if copy.owner == self.owner { self.mode } else { self.mode - (Mode::SUID | Mode::SGID) }
    }
}

/// When the content or the attributes were last changed (ctime), in whole seconds. The system sets this time; no
/// program can set it.
pub(super) fn changed_at(stat: &Stat) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or_default())
}
