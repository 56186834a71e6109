//! The directories that a server gives away, and whether a path stays inside them.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::fault::{self, Fault};
use super::input::Order;

/// The directories under which sources and targets may lie, as `--content-root` named them.
#[derive(Clone, Debug, Default)]
pub struct Roots(Vec<Root>);

#[derive(Clone, Debug)]
struct Root {
    given: PathBuf,
    canonical: PathBuf,
}

/// Where an order's paths really are.
pub(super) struct Places {
    pub source: PathBuf,
    pub targets: Vec<PathBuf>,
}

impl Roots {
    /// These directories.
    ///
    /// # Errors
    /// Where one can't be resolved or is no directory; the message names it.
    pub fn new(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> io::Result<Self> {
        dirs.into_iter().map(|dir| Root::new(dir.as_ref())).collect::<io::Result<_>>().map(Self)
    }

    /// `path`, which is [`clean`], in the canonical spelling of the root that holds it; none where it lies outside.
    /// Looks at no disk.
    pub(super) fn place(&self, path: &Path) -> Option<PathBuf> {
        let within = |root: &PathBuf| path.strip_prefix(root).ok().map(Path::to_owned);
        self.0.iter().find_map(|root| {
            within(&root.canonical).or_else(|| within(&root.given)).map(|rest| join(&root.canonical, &rest))
        })
    }

    /// Follows all symlinks of the order's paths and makes sure that they lead to places inside the roots that don't
    /// overlap.
    pub(super) fn resolve(&self, order: &Order) -> Result<Places, Fault> {
        let source = self.resolve_source(&order.source)?;
        let targets: Vec<_> =
            order.targets.iter().map(|target| self.resolve_target(target)).collect::<Result<_, _>>()?;
        let mut all: Vec<_> = targets.iter().chain([&source]).collect();
        all.sort();
        if let Some([outer, inner]) = all.array_windows().find(|[outer, inner]| inner.starts_with(outer)) {
            let message = format!("symlinks followed, {} lies inside {}", inner.display(), outer.display());
            return Err(Fault::fatal("overlapping_paths", message));
        }
        Ok(Places { source, targets })
    }

    fn resolve_source(&self, source: &Path) -> Result<PathBuf, Fault> {
        let canonical = source.canonicalize().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                Fault::fatal("source_missing", format!("the source {} does not exist", source.display()))
            }
            _ => Fault::io("reading the source", source, &error),
        })?;
        self.hold(source, &canonical)?;
        if !canonical.is_dir() {
            let message = format!("the source {} is not a directory", source.display());
            return Err(Fault::fatal("source_not_a_directory", message));
        }
        Ok(canonical)
    }

    /// The target need not be there yet: what exists of the way to it is resolved, the rest is as it is written.
    fn resolve_target(&self, target: &Path) -> Result<PathBuf, Fault> {
        for there in target.ancestors() {
            match there.canonicalize() {
                Ok(canonical) => {
                    let rest = target.strip_prefix(there).unwrap_or(Path::new(""));
                    let resolved = join(&canonical, rest);
                    self.hold(target, &resolved)?;
                    return if canonical.is_dir() { Ok(resolved) } else { Err(fault::conflict(there, "a directory")) };
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

    fn hold(&self, named: &Path, canonical: &Path) -> Result<(), Fault> {
        let held = self.0.iter().any(|root| canonical.starts_with(&root.canonical));
        if held { Ok(()) } else { Err(outside(named, canonical)) }
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

/// The path without `.` and doubled slashes; none where it is relative or says `..`.
pub(super) fn clean(path: &Path) -> Option<PathBuf> {
    let tidy = path.is_absolute() && !path.components().any(|part| part == Component::ParentDir);
    tidy.then(|| path.components().collect())
}

/// Like [`Path::join`], but joining nothing adds no slash.
pub(super) fn join(dir: &Path, rest: &Path) -> PathBuf {
    if rest.as_os_str().is_empty() { dir.to_owned() } else { dir.join(rest) }
}

fn outside(named: &Path, canonical: &Path) -> Fault {
    let leads = if named == canonical { String::new() } else { format!(": it leads to {}", canonical.display()) };
    Fault::fatal("outside_roots", format!("{} lies outside the content roots{leads}", named.display()))
}
