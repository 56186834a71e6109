//! One entry of the source into its place in a target: under a temporary name first, so that nobody ever sees a half one.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use filetime::{set_file_handle_times, set_file_times, set_symlink_file_times};
use rustix::fs::OFlags;

use super::fault::{Fault, changed, conflict, interrupted};
use super::limit::Limiter;
use super::plan::Traits;
use crate::task::TaskId;

/// Files from this size on are on the disk before they get their name. For smaller ones that costs 3 ms each, ten times
/// the copy itself (measured: 16 KiB files, ext4), so they are written out together at the end of each target.
const SYNC_FROM: u64 = if cfg!(target_os = "linux") { 8 * 1024 * 1024 } else { 0 };

/// How long nobody has written to a temporary file that nobody owns any more.
const ABANDONED: Duration = Duration::from_hours(1);

/// When a file's data must have reached the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Before it gets its name.
    First,
    /// A small one: by the next [`settle`].
    Later,
}

impl Sync {
    pub const fn for_len(len: u64) -> Self {
        if len >= SYNC_FROM { Self::First } else { Self::Later }
    }
}

/// Makes the directory, open to us for as long as we fill it, and removes what a former attempt left in it.
pub(super) fn dir(to: &Path, traits: &Traits, temp: &str) -> Result<(), Fault> {
    let refused = |error| Fault::io("making the directory", to, &error);
    let meta = match to.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(to).map_err(refused)?;
            to.symlink_metadata().map_err(refused)?
        }
        there => there.map_err(refused)?,
    };
    if !meta.is_dir() {
        return Err(conflict(to, "a directory"));
    }
    let mode = kept_mode(traits, &meta) | 0o700;
    if Traits::of(&meta).mode != mode {
        fs::set_permissions(to, Permissions::from_mode(mode)).map_err(refused)?;
    }
    remove(&to.join(temp))?;
    remove_abandoned(to).map_err(|error| Fault::io("looking for leftovers in", to, &error))
}

/// Removes what a task left that has no next attempt: a server was killed in its last one. A copy that is under way
/// writes all the time, so a temporary file that nobody has written to for [`ABANDONED`] is nobody's.
fn remove_abandoned(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let ours = name.to_str().and_then(|name| name.strip_prefix(".taskbell-")?.strip_suffix(".tmp"));
        if ours.is_none_or(|id| id.parse::<TaskId>().is_err()) {
            continue;
        }
        let modified = entry.metadata().and_then(|meta| meta.modified());
        if modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED)) {
            // Gone already, or not ours to remove: neither is in the way of the copy.
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Gives the directory its permissions and times, when nothing more goes into it.
pub(super) fn finish_dir(to: &Path, traits: &Traits) -> Result<(), Fault> {
    let refused = |error| Fault::io("finishing the directory", to, &error);
    let meta = to.symlink_metadata().map_err(refused)?;
    if !meta.is_dir() {
        return Err(conflict(to, "a directory"));
    }
    fs::set_permissions(to, Permissions::from_mode(kept_mode(traits, &meta))).map_err(refused)?;
    set_file_times(to, traits.modified, traits.modified).map_err(refused)
}

/// Makes the symlink; whether it was there already.
pub(super) fn link(from: &Path, to: &Path, leads_to: &Path, temp: &str) -> Result<bool, Fault> {
    let refused = |error| Fault::io("making the symlink", to, &error);
    if fs::read_link(to).is_ok_and(|there| there == leads_to) {
        return Ok(true);
    }
    if to.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(conflict(to, "a symlink"));
    }
    let meta = from.symlink_metadata().map_err(|error| Fault::source(from, &error))?;
    let temp = to.with_file_name(temp);
    remove(&temp)?;
    symlink(leads_to, &temp).map_err(refused)?;
    let temp = Temp { path: temp, named: false };
    let modified = filetime::FileTime::from_last_modification_time(&meta);
    set_symlink_file_times(&temp.path, modified, modified).map_err(refused)?;
    temp.name(to)?;
    Ok(false)
}

/// Whether the file is there already: the same size, time of change and permissions.
pub(super) fn is_there(to: &Path, traits: &Traits) -> bool {
    to.symlink_metadata().is_ok_and(|meta| {
        let there = Traits::of(&meta);
        let same = there.len == traits.len && there.modified == traits.modified;
        meta.is_file() && same && there.mode == kept_mode(traits, &meta)
    })
}

/// Copies the file. `moved` hears of each chunk and says whether to go on.
pub(super) fn file(
    (from, to): (&Path, &Path),
    traits: &Traits,
    temp: &str,
    limiter: &Limiter,
    sync: Sync,
    mut moved: impl FnMut(u64) -> bool,
) -> Result<(), Fault> {
    let refused = |error: io::Error| Fault::io(&format!("copying {} to", from.display()), to, &error);
    let source = open_source(from, traits)?;
    if to.symlink_metadata().is_ok_and(|meta| meta.is_dir()) {
        return Err(conflict(to, "a file"));
    }
    let (copy, temp) = create(&to.with_file_name(temp)).map_err(refused)?;
    let mut left = traits.len;
    while left > 0 {
        let chunk = limiter.chunk().min(left);
        limiter.take(chunk);
        let bytes = io::copy(&mut (&source).take(chunk), &mut &copy).map_err(refused)?;
        if bytes == 0 {
            return Err(changed(from));
        }
        left -= bytes.min(left);
        if !moved(bytes) {
            return Err(interrupted());
        }
    }
    if Traits::of(&source.metadata().map_err(|error| Fault::source(from, &error))?) != *traits {
        return Err(changed(from));
    }
    let mode = kept_mode(traits, &copy.metadata().map_err(refused)?);
    copy.set_permissions(Permissions::from_mode(mode)).map_err(refused)?;
    set_file_handle_times(&copy, Some(traits.modified), Some(traits.modified)).map_err(refused)?;
    if sync == Sync::First {
        copy.sync_all().map_err(refused)?;
    }
    temp.name(to)
}

/// Opens what stands under this name itself. Never follows a symlink, never waits for a pipe.
pub(super) fn open_in_place(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Does something to the content of a directory that is finished, and leaves its permissions and times as they were.
pub(super) fn reopened<T>(dir: &Path, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let traits = Traits::of(&dir.symlink_metadata().map_err(|error| Fault::io("reading", dir, &error))?);
    let writable = Permissions::from_mode(traits.mode | 0o700);
    fs::set_permissions(dir, writable).map_err(|error| Fault::io("opening the directory", dir, &error))?;
    let done = work();
    finish_dir(dir, &traits)?;
    done
}

/// Opens a file of the source, if it is still the one that was counted.
pub(super) fn open_source(from: &Path, traits: &Traits) -> Result<File, Fault> {
    let missing = |error| Fault::source(from, &error);
    let source = open_in_place(from).map_err(missing)?;
    let same = Traits::of(&source.metadata().map_err(missing)?) == *traits;
    if same { Ok(source) } else { Err(changed(from)) }
}

/// Returns when all of the target's file system is on the disk.
pub(super) fn settle(target: &Path) -> Result<(), Fault> {
    #[cfg(target_os = "linux")]
    {
        let settled = File::open(target).and_then(|dir| rustix::fs::syncfs(dir).map_err(io::Error::from));
        settled.map_err(|error| Fault::io("writing to the disk", target, &error))?;
    }
    let _ = target;
    Ok(())
}

/// A copy keeps the source's permissions. Set-user and set-group bits mean "with the owner's rights": they are kept only
/// where the copy has the same owner, because a copy made by root would give root's.
fn kept_mode(traits: &Traits, copy: &Metadata) -> u32 {
    if Traits::of(copy).owner == traits.owner { traits.mode } else { traits.mode & 0o1777 }
}

fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Fault::io("removing", path, &error)),
        _ => Ok(()),
    }
}

fn create(path: &Path) -> io::Result<(File, Temp)> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = match open() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| open()),
        opened => opened,
    }?;
    Ok((file, Temp { path: path.to_owned(), named: false }))
}

/// A temporary name: gone when this is dropped, unless it became the real one.
struct Temp {
    path: PathBuf,
    named: bool,
}

impl Temp {
    fn name(mut self, to: &Path) -> Result<(), Fault> {
        fs::rename(&self.path, to).map_err(|error| Fault::io("naming", to, &error))?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.named {
            // What can't be removed now is removed by the next attempt.
            let _ = fs::remove_file(&self.path);
        }
    }
}
