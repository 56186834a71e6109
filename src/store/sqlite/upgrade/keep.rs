//! Keeps the old file under a second name.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Gives the file a second name: `log.db.format1`, or `log.db.format1-2` and so on if this name is taken by another file. On a file
/// system without such names (`link` fails), makes a copy. Returns the second name.
pub(super) fn keep_old_file(path: &Path, link: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<PathBuf> {
    let mut number = 1;
    let name = loop {
        let name = numbered(path, number);
        match fs::symlink_metadata(&name) {
            // A process that was killed has done this already.
            Ok(kept) if is_same_file(&kept, path)? => return Ok(name),
            Ok(_) => number += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break name,
            Err(error) => return Err(error),
        }
    };
    if link(path, &name).is_err() {
        copy_durably(path, &name)?;
    }
    Ok(name)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".format1");
    if number > 1 {
        name.push(format!("-{number}"));
    }
    name.into()
}

fn is_same_file(kept: &fs::Metadata, path: &Path) -> io::Result<bool> {
    let file = fs::symlink_metadata(path)?;
    Ok((kept.dev(), kept.ino()) == (file.dev(), file.ino()))
}

/// Copies the file. The copy gets its name only when it is complete and durable.
fn copy_durably(path: &Path, to: &Path) -> io::Result<()> {
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    fs::copy(path, &part)?;
    File::open(&part)?.sync_all()?;
    fs::rename(&part, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn a_second_name_is_given_once_and_replaces_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        fs::write(&path, "new").unwrap();
        fs::write(dir.path().join("log.db.format1"), "older").unwrap();
        for _ in 0..2 {
            let kept = keep_old_file(&path, |from, to| fs::hard_link(from, to)).unwrap();
            assert_eq!(kept, dir.path().join("log.db.format1-2"));
            assert_eq!(names(dir.path()), ["log.db", "log.db.format1", "log.db.format1-2"]);
        }
        assert_eq!(fs::read(dir.path().join("log.db.format1")).unwrap(), b"older");
        assert_eq!(fs::read(dir.path().join("log.db.format1-2")).unwrap(), b"new");
    }

    #[test]
    fn without_second_names_the_file_is_copied() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.db");
        fs::write(&path, "log").unwrap();
        let kept = keep_old_file(&path, |_, _| Err(io::ErrorKind::Unsupported.into())).unwrap();
        assert_eq!(
            (names(dir.path()), fs::read(kept).unwrap()),
            (vec!["log.db".to_owned(), "log.db.format1".to_owned()], b"log".to_vec())
        );
    }
}
