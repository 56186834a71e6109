//! The attributes of a file, directory or symlink: what a copy keeps, and what tells whether a file is still the same.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Dev, FileType, Mode, Nsecs, Stat, Timespec};

/// Attributes of one entry of a directory. Two that are equal belong to the same, unchanged entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub kind: FileType,
    /// In bytes.
    pub len: u64,
    /// Permissions, with the set-user, set-group and sticky bits.
    pub mode: Mode,
    pub modified: Timespec,
    /// User and group.
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

    /// The mode of a copy that has the attributes `copy` so far. It is the mode of the source. Set-user and set-group bits
    /// mean "with the owner's rights": they are kept only where the copy has the same owner, because a copy made by root
    /// would give root's rights.
    pub fn mode_of_copy(&self, copy: &Self) -> Mode {
        if copy.owner == self.owner { self.mode } else { self.mode - (Mode::SUID | Mode::SGID) }
    }
}

/// When the content or the attributes changed last (ctime), to the second. The system keeps this time; no program can set
/// it.
pub(super) fn changed_at(stat: &Stat) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or_default())
}
