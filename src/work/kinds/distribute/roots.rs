//! The content roots (the directories that distributions may read and write), and the check that a path is inside them.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::copy_error::{self, CopyError};
use super::tree::{Tree, join};

/// The content roots: the directories of `--content-root`. Sources and targets must be inside them.
///
/// They are trusted, because no task can replace a content root or a directory above one.
#[derive(Clone, Debug, Default)]
pub struct ContentRoots(Vec<Root>);

#[derive(Clone, Debug)]
struct Root {
    /// The absolute path, as the setting has it.
    as_configured: PathBuf,
    /// The same path, with all symlinks followed.
    canonical: PathBuf,
}

impl ContentRoots {
    /// Makes content roots of these directories.
    ///
    /// # Errors
    /// One of them can't be resolved or is not a directory. The message names it.
    pub fn new(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<Self> {
        dirs.into_iter().map(|dir| Root::new(dir.as_ref())).collect::<io::Result<_>>().map(Self)
    }

    /// Returns `path` below the canonical path of its root; `None` if it is outside all roots. `path` is the result of
    /// [`normalize`]. Does not access the disk.
    pub(super) fn canonical_path(&self, path: &Path) -> Option<PathBuf> {
        let within = |root: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
        self.0.iter().find_map(|root| {
            within(&root.canonical).or_else(|| within(&root.as_configured)).map(|rest| join(&root.canonical, &rest))
        })
    }

    /// Follows all symlinks in the paths of the source and the targets. Refuses paths outside the roots, and trees that
    /// overlap.
    pub(super) fn resolve(&self, source: &Path, targets: &[PathBuf]) -> Result<(Tree, Vec<Tree>), CopyError> {
        let source = self.resolve_source(source)?;
        let targets: Vec<_> = targets.iter().map(|target| self.resolve_target(target)).collect::<Result<_, _>>()?;
        let mut all: Vec<_> = targets.iter().chain([&source]).map(|tree| tree.path_of(Path::new(""))).collect();
        all.sort();
        if let Some([outer, inner]) = all.array_windows().find(|[outer, inner]| inner.starts_with(outer)) {
            let message = format!("after following symlinks, {} lies inside {}", inner.display(), outer.display());
            return Err(CopyError::fatal("overlapping_paths", message));
        }
        Ok((source, targets))
    }

    fn resolve_source(&self, source: &Path) -> Result<Tree, CopyError> {
        let canonical = source.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                CopyError::fatal("source_missing", format!("the source {} does not exist", source.display()))
            }
            _ => CopyError::io("reading the source", source, &error),
        })?;
        let (root, path_in_root) = self.split_at_root(source, &canonical)?;
        if !canonical.is_dir() {
            let message = format!("the source {} is not a directory", source.display());
            return Err(CopyError::fatal("source_not_a_directory", message));
        }
        Ok(Tree::source(root, path_in_root))
    }

    /// The target need not exist. Symlinks are followed in the part of its path that exists, and the rest is appended
    /// unchanged.
    fn resolve_target(&self, target: &Path) -> Result<Tree, CopyError> {
        for ancestor in target.ancestors() {
            match ancestor.canonicalize() {
                Ok(canonical) => {
                    let rest = target.strip_prefix(ancestor).unwrap_or(Path::new(""));
                    let (root, path_in_root) = self.split_at_root(target, &join(&canonical, rest))?;
                    let not_a_directory = || copy_error::target_conflict(ancestor, "a directory");
                    return if canonical.is_dir() {
                        Ok(Tree::target(root, path_in_root))
                    } else {
                        Err(not_a_directory())
                    };
                }
                Err(_) if ancestor.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) => {
                    let message = format!("{} is a symlink that leads nowhere", ancestor.display());
                    return Err(CopyError::fatal("outside_roots", message));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(CopyError::io("looking for the target", ancestor, &error)),
            }
        }
        Err(outside_roots(target, target))
    }

    /// Splits the path `canonical` into the content root that it is in and the path inside this root. `path` is the
    /// path in the input, for the error.
    fn split_at_root(&self, path: &Path, canonical: &Path) -> Result<(PathBuf, PathBuf), CopyError> {
        let split =
            |root: &Root| Some((root.canonical.clone(), canonical.strip_prefix(&root.canonical).ok()?.to_owned()));
        self.0.iter().find_map(split).ok_or_else(|| outside_roots(path, canonical))
    }
}

impl Root {
    fn new(dir: &Path) -> io::Result<Self> {
        let name_root = |error: io::Error| {
            io::Error::new(error.kind(), format!("the content root {} can't be used: {error}", dir.display()))
        };
        let canonical = dir.canonicalize().map_err(name_root)?;
        if !canonical.is_dir() {
            return Err(name_root(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let absolute = std::path::absolute(dir).map_err(name_root)?;
        Ok(Self { as_configured: normalize(&absolute).unwrap_or_else(|| canonical.clone()), canonical })
    }
}

/// Returns the path without `.` and repeated slashes; `None` if it is relative or contains `..`.
pub(super) fn normalize(path: &Path) -> Option<PathBuf> {
    let is_valid = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    is_valid.then(|| path.components().collect())
}

fn outside_roots(path: &Path, canonical: &Path) -> CopyError {
    let resolved = if path == canonical { String::new() } else { format!(": it leads to {}", canonical.display()) };
    CopyError::fatal("outside_roots", format!("{} lies outside the content roots{resolved}", path.display()))
}
