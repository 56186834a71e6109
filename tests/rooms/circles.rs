//! No files import each other in a circle, also within a room.
//!
//! A file imports another file if one of its paths leads to it. A path is followed to the file that defines the item.
//! If `mod.rs` re-exports an item (`pub use child::Thing`), the item belongs to the child, so `super::Thing` imports
//! the child and not `mod.rs`. The re-export itself is no import.
//!
//! Neither a declaration (`mod child;`) nor a path from a file to one of its own children is an import. So a parent may
//! call its children, and the children may use what the parent defines. Siblings that use each other form a circle,
//! also if they do so through re-exports of their parent.
//!
//! Links in docs and code behind `#[cfg(test)]` are ignored. A glob import counts as an import of the module that it names.

use std::collections::{BTreeMap, BTreeSet};

use super::Violations;
use super::source::Source;

/// The longest chain of re-exports that is followed.
const REEXPORTS_MAX: usize = 8;

/// The files by the path of their module: `views`, `views::page`.
type Modules<'a> = BTreeMap<String, &'a Source>;
/// Which files each file imports, by their modules.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Finds groups of files in which each file imports each other file, directly or through other files of the group.
pub(crate) fn circles(sources: &[Source]) -> Violations {
    let modules: Modules = sources.iter().map(|source| (module_of(&source.path), source)).collect();
    let imports: Imports = modules.keys().map(|module| (module.clone(), imports_of(module, &modules))).collect();
    let reach: Imports = imports.keys().map(|module| (module.clone(), reachable(module, &imports))).collect();
    let mut found = BTreeSet::new();
    for module in reach.keys().filter(|module| reach[*module].contains(*module)) {
        let group: Vec<&String> = reach[module].iter().filter(|other| reach[*other].contains(module)).collect();
        let arrow = |from: &&String| {
            let to: Vec<&str> = group.iter().filter(|to| imports[*from].contains(**to)).map(|to| to.as_str()).collect();
            format!("    {from} imports {}", to.join(", "))
        };
        let arrows: Vec<String> = group.iter().map(arrow).collect();
        found.insert(format!("{} files import each other:\n{}", group.len(), arrows.join("\n")));
    }
    found.into_iter().collect()
}

/// `views/mod.rs` and `views.rs` are the module `views`; `lib.rs` is the crate itself, the empty path.
fn module_of(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { String::new() } else { path.replace('/', "::") }
}

fn reachable(from: &str, imports: &Imports) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut unvisited: Vec<&String> = imports[from].iter().collect();
    while let Some(module) = unvisited.pop() {
        if reached.insert(module.clone()) {
            unvisited.extend(&imports[module]);
        }
    }
    reached
}

fn imports_of(module: &str, modules: &Modules) -> BTreeSet<String> {
    let source = modules[module];
    let private = source.uses().into_iter().filter(|import| !import.is_public).map(|import| import.path);
    let is_import = |path: &String| path.contains("::") || source.uses().iter().any(|import| import.name == *path);
    let in_code = source.code_paths().into_iter().map(|named| named.path).filter(is_import);
    let mut imported: BTreeSet<String> =
        private.chain(in_code).filter_map(|path| resolve(module, &path, modules, REEXPORTS_MAX)).collect();
    imported.retain(|other| other != module && !other.starts_with(&join(module, "")));
    imported
}

/// The module of the file that defines the item to which the path leads in the module `from`. `None` if the item is in
/// another crate, the standard library or the module itself.
fn resolve(from: &str, path: &str, modules: &Modules, reexports_left: usize) -> Option<String> {
    let segments: Vec<&str> = path.split("::").collect();
    let (base, begin) = start(from, &segments, modules)?;
    let below = |end: usize| segments[begin..end].iter().fold(base.clone(), |module, segment| join(&module, segment));
    let deepest = (begin + 1..=segments.len()).rev().find(|end| modules.contains_key(&below(*end)));
    let at = deepest.unwrap_or(begin);
    let module = below(at);
    let Some(item) = segments.get(at) else { return Some(module) };
    let import = modules.get(&module)?.uses().into_iter().find(|import| import.name == *item);
    match import {
        Some(import) if reexports_left > 0 => {
            let path = [&[import.path.as_str()][..], &segments[at + 1..]].concat().join("::");
            resolve(&module, &path, modules, reexports_left - 1)
        }
        _ => Some(module),
    }
}

/// The module at which a path begins, and the number of the path's segments that lead to it.
fn start(from: &str, segments: &[&str], modules: &Modules) -> Option<(String, usize)> {
    let ups = segments.iter().take_while(|segment| **segment == "super").count();
    match *segments.first()? {
        "crate" | "taskbell" => Some((String::new(), 1)),
        "self" if segments.len() > 1 => Some((from.to_owned(), 1)),
        "super" => Some(((0..ups).fold(from.to_owned(), |module, _| parent(&module)), ups)),
        first if modules.contains_key(&join(from, first)) => Some((from.to_owned(), 0)),
        first if modules[from].uses().iter().any(|import| import.name == first) => Some((from.to_owned(), 0)),
        _ => None,
    }
}

fn join(module: &str, child: &str) -> String {
    if module.is_empty() { child.to_owned() } else { format!("{module}::{child}") }
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map_or_else(String::new, |(parent, _)| parent.to_owned())
}
