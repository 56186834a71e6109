//! Copies one entry of the source into a target. A file or symlink has a temporary name until it is complete, so an
//! entry with its final name is always complete.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, fchmod, fstat, futimens};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::copy_error::{CopyError, interrupted, source_changed, target_conflict};
use super::open_directory::{OpenDirectory, times};
use super::rate_limiter::RateLimiter;
use super::temporary::{TemporaryEntry, TemporaryName, remove_leftovers};
use super::tree::{Location, Tree};

/// A file of at least this size, in bytes, is synced to the disk before it gets its final name. To sync each smaller
/// file would take ten times as long as to copy it (measured: 3 ms, for files of 16 KiB on ext4). So these are synced
/// together at the end of each target.
const SYNC_BEFORE_RENAME_MIN: u64 = if cfg!(target_os = "linux") { 8 * 1024 * 1024 } else { 0 };

/// When a file's data must have reached the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SyncTime {
    /// Before the file gets its final name.
    BeforeRename,
    /// At the next [`sync_filesystem`].
    WithTarget,
}

impl SyncTime {
    /// Returns when a file of this length is synced.
    pub const fn for_len(len: u64) -> Self {
        if len >= SYNC_BEFORE_RENAME_MIN { Self::BeforeRename } else { Self::WithTarget }
    }
}

/// Makes the directory if it is missing, allows this process to write into it, and removes the temporary entries of earlier
/// attempts.
pub(super) fn prepare_directory(
    target: &mut Tree,
    dir: &Path,
    attributes: &Attributes,
    temporary: &TemporaryName,
) -> Result<(), CopyError> {
    let path = target.path_of(dir);
    let directory = target.create_directory(dir)?;
    make_writable(directory, |existing| attributes.mode_of_copy(existing))
        .map_err(|error| CopyError::create_directory(&path, &error))?;
    remove_leftovers(directory, temporary, SystemTime::now())
        .map_err(|error| CopyError::io("looking for leftovers in", &path, &error))
}

/// Allows this process to write into a finished directory. Returns the attributes that [`finish_dir`] restores.
pub(super) fn reopen_dir(directory: &OpenDirectory, path: &Path) -> Result<Attributes, CopyError> {
    make_writable(directory, |existing| existing.mode).map_err(|error| CopyError::target(path, &error))
}

/// Sets the mode of the directory, with all permissions for its owner in addition. Returns its attributes before the change.
fn make_writable(directory: &OpenDirectory, mode: impl Fn(&Attributes) -> Mode) -> io::Result<Attributes> {
    let existing = Attributes::of(&directory.stat()?);
    let mode = mode(&existing) | Mode::RWXU;
    if existing.mode != mode {
        directory.set_attributes(mode, None)?;
    }
    Ok(existing)
}

/// Sets the permissions and times of the directory, after its last entry was copied.
pub(super) fn finish_dir(directory: &OpenDirectory, path: &Path, attributes: &Attributes) -> Result<(), CopyError> {
    let existing = directory.stat().map(|stat| Attributes::of(&stat));
    existing
        .and_then(|existing| directory.set_attributes(attributes.mode_of_copy(&existing), Some(attributes.modified)))
        .map_err(|error| CopyError::io("finishing the directory", path, &error))
}

/// Makes the symlink. Returns true if the same symlink already existed.
pub(super) fn copy_symlink(
    (from, to): (&Location<'_>, &Location<'_>),
    link_target: &Path,
    temporary: &TemporaryName,
) -> Result<bool, CopyError> {
    let make_error = |error| CopyError::io("making the symlink", &to.path(), &error);
    if to.directory.read_link(to.name).is_ok_and(|existing| existing == link_target) {
        return Ok(true);
    }
    refuse_dir(to, "a symlink")?;
    let stat = from.directory.stat_entry(from.name).map_err(|error| CopyError::source(&from.path(), &error))?;
    let link = TemporaryEntry::symlink(to, temporary, link_target).map_err(make_error)?;
    to.directory.set_symlink_time(link.name(), Attributes::of(&stat).modified).map_err(make_error)?;
    link.rename(to)?;
    Ok(false)
}

/// Whether the copy already exists: a file with the same size, modification time and permissions.
pub(super) fn is_up_to_date(to: &Location<'_>, attributes: &Attributes) -> bool {
    to.directory.stat_entry(to.name).is_ok_and(|stat| {
        let existing = Attributes::of(&stat);
        let same = existing.len == attributes.len && existing.modified == attributes.modified;
        existing.is_file() && same && existing.mode == attributes.mode_of_copy(&existing)
    })
}

/// What the copy of a file needs, besides the file and its target.
pub(super) struct CopyContext<'a> {
    pub attributes: &'a Attributes,
    pub temporary: &'a TemporaryName,
    pub sync: SyncTime,
    pub limiter: &'a RateLimiter,
    /// Cancelled when the attempt is interrupted.
    pub interrupt: &'a CancellationToken,
}

/// Copies the file, and calls `on_copied` with the number of bytes of each chunk.
pub(super) fn copy_file(
    (from, to): (&Location<'_>, &Location<'_>),
    context: &CopyContext<'_>,
    on_copied: impl FnMut(u64),
) -> Result<(), CopyError> {
    let file_copy_error = |error: io::Error| file_copy_error(from, to, &error);
    let CopyContext { attributes, temporary, sync, .. } = *context;
    let source = open_source(from, attributes)?;
    refuse_dir(to, "a file")?;
    let (copy, temporary) = TemporaryEntry::file(to, temporary).map_err(file_copy_error)?;
    copy_bytes((from, to), (&source, &copy), context, on_copied)?;
    if attributes_of(&source).map_err(|error| CopyError::source(&from.path(), &error))? != *attributes {
        return Err(source_changed(&from.path()));
    }
    if sync == SyncTime::BeforeRename {
        copy.sync_all().map_err(file_copy_error)?;
    }
    set_attributes(&copy, attributes).map_err(file_copy_error)?;
    temporary.rename(to)
}

/// Copies the bytes in chunks, within the rate limit. Fails if the source ends too early or the attempt is interrupted.
fn copy_bytes(
    (from, to): (&Location<'_>, &Location<'_>),
    (source, mut copy): (&File, &File),
    CopyContext { attributes, limiter, interrupt, .. }: &CopyContext<'_>,
    mut on_copied: impl FnMut(u64),
) -> Result<(), CopyError> {
    let mut left = attributes.len;
    while left > 0 {
        let chunk = limiter.chunk().min(left);
        if !limiter.wait_for(chunk, interrupt) {
            return Err(interrupted());
        }
        let bytes = io::copy(&mut source.take(chunk), &mut copy).map_err(|error| file_copy_error(from, to, &error))?;
        if bytes == 0 {
            return Err(source_changed(&from.path()));
        }
        left -= bytes.min(left);
        on_copied(bytes);
        if interrupt.is_cancelled() {
            return Err(interrupted());
        }
    }
    Ok(())
}

fn file_copy_error(from: &Location<'_>, to: &Location<'_>, error: &io::Error) -> CopyError {
    CopyError::io(&format!("copying {} to", from.path().display()), &to.path(), error)
}

/// Refuses to replace a directory by another entry.
fn refuse_dir(to: &Location<'_>, wanted: &str) -> Result<(), CopyError> {
    let is_dir = to.directory.stat_entry(to.name).is_ok_and(|stat| Attributes::of(&stat).is_dir());
    if is_dir { Err(target_conflict(&to.path(), wanted)) } else { Ok(()) }
}

fn attributes_of(file: &File) -> io::Result<Attributes> {
    Ok(Attributes::of(&fstat(file)?))
}

fn set_attributes(copy: &File, attributes: &Attributes) -> io::Result<()> {
    fchmod(copy, attributes.mode_of_copy(&attributes_of(copy)?))?;
    Ok(futimens(copy, &times(attributes.modified))?)
}

/// Opens a file of the source. Fails if the file has changed since the plan was made.
pub(super) fn open_source(from: &Location<'_>, attributes: &Attributes) -> Result<File, CopyError> {
    let read_error = |error| CopyError::source(&from.path(), &error);
    let source = from.directory.open_file(from.name).map_err(read_error)?;
    let same = attributes_of(&source).map_err(read_error)? == *attributes;
    if same { Ok(source) } else { Err(source_changed(&from.path())) }
}

/// Waits until all data of the file system of `dir` is on the disk.
pub(super) fn sync_filesystem(dir: &OwnedFd, path: &Path) -> Result<(), CopyError> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(dir).map_err(|error| CopyError::io("writing to the disk", path, &error.into()))?;
    let _ = (dir, path);
    Ok(())
}
