//! Puts one entry of the source into its place in a target. Files and symlinks have a temporary name until they are
//! complete, so that no half file is ever seen under its real name.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{Mode, fchmod, fstat, futimens};
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::fault::{Fault, changed, conflict, interrupted};
use super::folder::{Folder, times};
use super::limit::RateLimiter;
use super::temporary::{Temporary, TemporaryName, remove_leftovers};
use super::tree::{Location, Tree};

/// Files from this size on, in bytes, are on the disk before they get their name. For smaller ones that costs 3 ms each, ten
/// times the copy itself (measured: 16 KiB files, ext4), so they are written out together at the end of each target.
const SYNC_FROM: u64 = if cfg!(target_os = "linux") { 8 * 1024 * 1024 } else { 0 };

/// When a file's data must have reached the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Before the file gets its name.
    First,
    /// By the next [`sync_filesystem`].
    Later,
}

impl Sync {
    pub const fn for_len(len: u64) -> Self {
        if len >= SYNC_FROM { Self::First } else { Self::Later }
    }
}

/// Makes the directory if it is missing, allows this process to fill it, and removes what former attempts left in it.
pub(super) fn make_dir(
    target: &mut Tree,
    dir: &Path,
    attributes: &Attributes,
    temporary: &TemporaryName,
) -> Result<(), Fault> {
    let path = target.path_of(dir);
    let folder = target.make_folder(dir)?;
    make_writable(folder, |there| attributes.mode_of_copy(there)).map_err(|error| Fault::make_dir(&path, &error))?;
    remove_leftovers(folder, temporary, SystemTime::now())
        .map_err(|error| Fault::io("looking for leftovers in", &path, &error))
}

/// Allows this process to change what is in a finished directory. Returns the attributes that [`finish_dir`] restores.
pub(super) fn reopen_dir(folder: &Folder, path: &Path) -> Result<Attributes, Fault> {
    make_writable(folder, |there| there.mode).map_err(|error| Fault::target(path, &error))
}

/// Gives the directory this mode, with all permissions for its owner. Returns its attributes before that.
fn make_writable(folder: &Folder, mode: impl Fn(&Attributes) -> Mode) -> io::Result<Attributes> {
    let there = Attributes::of(&folder.stat()?);
    let mode = mode(&there) | Mode::RWXU;
    if there.mode != mode {
        folder.set_attributes(mode, None)?;
    }
    Ok(there)
}

/// Gives the directory its permissions and times, when nothing more goes into it.
pub(super) fn finish_dir(folder: &Folder, path: &Path, attributes: &Attributes) -> Result<(), Fault> {
    let there = folder.stat().map(|stat| Attributes::of(&stat));
    there
        .and_then(|there| folder.set_attributes(attributes.mode_of_copy(&there), Some(attributes.modified)))
        .map_err(|error| Fault::io("finishing the directory", path, &error))
}

/// Makes the symlink. Returns whether it was there already.
pub(super) fn copy_symlink(
    (from, to): (&Location<'_>, &Location<'_>),
    leads_to: &Path,
    temporary: &TemporaryName,
) -> Result<bool, Fault> {
    let refused = |error| Fault::io("making the symlink", &to.path(), &error);
    if to.folder.read_link(to.name).is_ok_and(|there| there == leads_to) {
        return Ok(true);
    }
    refuse_dir(to, "a symlink")?;
    let stat = from.folder.stat_entry(from.name).map_err(|error| Fault::source(&from.path(), &error))?;
    let link = Temporary::symlink(to, temporary, leads_to).map_err(refused)?;
    to.folder.set_symlink_time(link.name(), Attributes::of(&stat).modified).map_err(refused)?;
    link.rename(to)?;
    Ok(false)
}

/// Whether the file is there already: the same size, time of change and permissions.
pub(super) fn is_up_to_date(to: &Location<'_>, attributes: &Attributes) -> bool {
    to.folder.stat_entry(to.name).is_ok_and(|stat| {
        let there = Attributes::of(&stat);
        let same = there.len == attributes.len && there.modified == attributes.modified;
        there.is_file() && same && there.mode == attributes.mode_of_copy(&there)
    })
}

/// What the copy of a file needs beside its two ends.
pub(super) struct Copying<'a> {
    pub attributes: &'a Attributes,
    pub temporary: &'a TemporaryName,
    pub sync: Sync,
    pub limiter: &'a RateLimiter,
    /// Cancelled when the attempt is interrupted.
    pub interrupt: &'a CancellationToken,
}

/// Copies the file and calls `copied` with the number of bytes of each chunk.
pub(super) fn copy_file(
    (from, to): (&Location<'_>, &Location<'_>),
    copying: &Copying<'_>,
    copied: impl FnMut(u64),
) -> Result<(), Fault> {
    let refused = |error: io::Error| refused(from, to, &error);
    let Copying { attributes, temporary, sync, .. } = *copying;
    let source = open_source(from, attributes)?;
    refuse_dir(to, "a file")?;
    let (copy, temporary) = Temporary::file(to, temporary).map_err(refused)?;
    copy_bytes((from, to), (&source, &copy), copying, copied)?;
    if attributes_of(&source).map_err(|error| Fault::source(&from.path(), &error))? != *attributes {
        return Err(changed(&from.path()));
    }
    if sync == Sync::First {
        copy.sync_all().map_err(refused)?;
    }
    set_attributes(&copy, attributes).map_err(refused)?;
    temporary.rename(to)
}

fn copy_bytes(
    (from, to): (&Location<'_>, &Location<'_>),
    (source, mut copy): (&File, &File),
    Copying { attributes, limiter, interrupt, .. }: &Copying<'_>,
    mut copied: impl FnMut(u64),
) -> Result<(), Fault> {
    let mut left = attributes.len;
    while left > 0 {
        let chunk = limiter.chunk().min(left);
        if !limiter.wait_for(chunk, interrupt) {
            return Err(interrupted());
        }
        let bytes = io::copy(&mut source.take(chunk), &mut copy).map_err(|error| refused(from, to, &error))?;
        if bytes == 0 {
            return Err(changed(&from.path()));
        }
        left -= bytes.min(left);
        copied(bytes);
        if interrupt.is_cancelled() {
            return Err(interrupted());
        }
    }
    Ok(())
}

fn refused(from: &Location<'_>, to: &Location<'_>, error: &io::Error) -> Fault {
    Fault::io(&format!("copying {} to", from.path().display()), &to.path(), error)
}

/// A directory is never replaced by something else.
fn refuse_dir(to: &Location<'_>, wanted: &str) -> Result<(), Fault> {
    let is_dir = to.folder.stat_entry(to.name).is_ok_and(|stat| Attributes::of(&stat).is_dir());
    if is_dir { Err(conflict(&to.path(), wanted)) } else { Ok(()) }
}

fn attributes_of(file: &File) -> io::Result<Attributes> {
    Ok(Attributes::of(&fstat(file)?))
}

fn set_attributes(copy: &File, attributes: &Attributes) -> io::Result<()> {
    fchmod(copy, attributes.mode_of_copy(&attributes_of(copy)?))?;
    Ok(futimens(copy, &times(attributes.modified))?)
}

/// Opens a file of the source, if it is still the one that was counted.
pub(super) fn open_source(from: &Location<'_>, attributes: &Attributes) -> Result<File, Fault> {
    let missing = |error| Fault::source(&from.path(), &error);
    let source = from.folder.open_file(from.name).map_err(missing)?;
    let same = attributes_of(&source).map_err(missing)? == *attributes;
    if same { Ok(source) } else { Err(changed(&from.path())) }
}

/// Returns when the whole file system that holds `dir` is on the disk.
pub(super) fn sync_filesystem(dir: &OwnedFd, path: &Path) -> Result<(), Fault> {
    #[cfg(target_os = "linux")]
    rustix::fs::syncfs(dir).map_err(|error| Fault::io("writing to the disk", path, &error.into()))?;
    let _ = (dir, path);
    Ok(())
}
