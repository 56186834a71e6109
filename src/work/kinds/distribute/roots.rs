//! The content roots: the directories that distributions may read and write, and whether a path stays inside them.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::fault::{self, Fault};
use super::tree::{Tree, join};

/// The directories under which sources and targets may lie, as `--content-root` named them.
///
/// They are trusted: no task can replace a content root or a directory above one.
#[derive(Clone, Debug, Default)]
pub struct ContentRoots(Vec<Root>);

#[derive(Clone, Debug)]
struct Root {
    given: PathBuf,
    canonical: PathBuf,
}

impl ContentRoots {
    /// Takes these directories as content roots.
    ///
    /// # Errors
    /// If one can't be resolved or is not a directory; the message names it.
    pub fn new(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<Self> {
        dirs.into_iter().map(|dir| Root::new(dir.as_ref())).collect::<io::Result<_>>().map(Self)
    }

    /// `path`, which is [`clean`], in the canonical spelling of the root that holds it; none if it lies outside. Does not
    /// access the disk.
    pub(super) fn canonical_spelling(&self, path: &Path) -> Option<PathBuf> {
        let within = |root: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
        self.0.iter().find_map(|root| {
            within(&root.canonical).or_else(|| within(&root.given)).map(|rest| join(&root.canonical, &rest))
        })
    }

    /// Follows all symlinks in the paths of the source and the targets. Refuses paths that lead outside the roots and trees
    /// that overlap.
    pub(super) fn resolve(&self, source: &Path, targets: &[PathBuf]) -> Result<(Tree, Vec<Tree>), Fault> {
        let source = self.resolve_source(source)?;
        let targets: Vec<_> = targets.iter().map(|target| self.resolve_target(target)).collect::<Result<_, _>>()?;
        let mut all: Vec<_> = targets.iter().chain([&source]).map(|tree| tree.path_of(Path::new(""))).collect();
        all.sort();
        if let Some([outer, inner]) = all.array_windows().find(|[outer, inner]| inner.starts_with(outer)) {
            let message = format!("symlinks followed, {} lies inside {}", inner.display(), outer.display());
            return Err(Fault::fatal("overlapping_paths", message));
        }
        Ok((source, targets))
    }

    fn resolve_source(&self, source: &Path) -> Result<Tree, Fault> {
        let canonical = source.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Fault::fatal("source_missing", format!("the source {} does not exist", source.display()))
            }
            _ => Fault::io("reading the source", source, &error),
        })?;
        let (root, inside) = self.split(source, &canonical)?;
        if !canonical.is_dir() {
            let message = format!("the source {} is not a directory", source.display());
            return Err(Fault::fatal("source_not_a_directory", message));
        }
        Ok(Tree::source(root, inside))
    }

    /// The target may be missing: the part of its path that exists is resolved, the rest is taken as it is written.
    fn resolve_target(&self, target: &Path) -> Result<Tree, Fault> {
        for there in target.ancestors() {
            match there.canonicalize() {
                Ok(canonical) => {
                    let rest = target.strip_prefix(there).unwrap_or(Path::new(""));
                    let (root, inside) = self.split(target, &join(&canonical, rest))?;
                    let conflict = || fault::conflict(there, "a directory");
                    return if canonical.is_dir() { Ok(Tree::target(root, inside)) } else { Err(conflict()) };
                }
                Err(_) if there.symlink_metadata().is_ok_and(|meta| meta.is_symlink()) => {
                    let message = format!("{} is a symlink that leads nowhere", there.display());
                    return Err(Fault::fatal("outside_roots", message));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(Fault::io("looking for the target", there, &error)),
            }
        }
        Err(outside(target, target))
    }

    /// The content root that holds `canonical`, and the way from there.
    fn split(&self, named: &Path, canonical: &Path) -> Result<(PathBuf, PathBuf), Fault> {
        let holds =
            |root: &Root| Some((root.canonical.clone(), canonical.strip_prefix(&root.canonical).ok()?.to_owned()));
        self.0.iter().find_map(holds).ok_or_else(|| outside(named, canonical))
    }
}

impl Root {
    fn new(dir: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(error.kind(), format!("the content root {} can't be used: {error}", dir.display()))
        };
        let canonical = dir.canonicalize().map_err(named)?;
        if !canonical.is_dir() {
            return Err(named(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let given = std::path::absolute(dir).map_err(named)?;
        Ok(Self { given: clean(&given).unwrap_or_else(|| canonical.clone()), canonical })
    }
}

/// The path without `.` and doubled slashes; none if it is relative or contains `..`.
pub(super) fn clean(path: &Path) -> Option<PathBuf> {
    let tidy = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    tidy.then(|| path.components().collect())
}

fn outside(named: &Path, canonical: &Path) -> Fault {
    let leads = if named == canonical { String::new() } else { format!(": it leads to {}", canonical.display()) };
    Fault::fatal("outside_roots", format!("{} lies outside the content roots{leads}", named.display()))
}
