//! The input of a distribution, and the checks that need no access to the disk.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::roots::{ContentRoots, clean};
use crate::task::Invalid;

/// The most targets of one distribution.
const TARGETS_MAX: usize = 1000;

/// What to copy, and where; paths are absolute and without `.` or `..`.
#[derive(Debug)]
pub(super) struct DistributeInput {
    pub source: PathBuf,
    pub targets: Vec<PathBuf>,
    /// Whether to read the copies back and compare them after all is copied.
    pub verify: bool,
}

impl DistributeInput {
    /// Reads `input`; otherwise returns an error for each field that is wrong.
    pub fn parse(input: &Value, roots: &ContentRoots) -> Result<Self, Vec<Invalid>> {
        let Value::Object(fields) = input else {
            return Err(vec![Invalid::new("", "an object: {\"source\": DIR, \"targets\": [DIR…], \"verify\"?: bool}")]);
        };
        let mut found = unknown_fields(fields);
        let source = read_source(fields, roots, &mut found);
        let targets = read_targets(fields, roots, &mut found);
        let verify = match fields.get("verify") {
            None => false,
            Some(Value::Bool(verify)) => *verify,
            Some(_) => {
                found.push(Invalid::new("/verify", "true or false"));
                false
            }
        };
        check_overlaps(source.as_ref(), &targets, &mut found);
        match source {
            Some(source) if found.is_empty() => {
                let targets = targets.into_iter().map(|target| target.named).collect();
                Ok(Self { source: source.named, targets, verify })
            }
            _ => Err(found),
        }
    }
}

/// A path that lies inside the content roots.
struct CheckedPath {
    pointer: String,
    named: PathBuf,
    /// In the canonical spelling of its root, so that two spellings of one path are equal.
    canonical: PathBuf,
}

fn unknown_fields(fields: &Map<String, Value>) -> Vec<Invalid> {
    let known = |name: &str| matches!(name, "source" | "targets" | "verify");
    let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    fields.keys().filter(|name| !known(name)).map(|name| Invalid::new(pointer(name), "no such field")).collect()
}

fn read_source(fields: &Map<String, Value>, roots: &ContentRoots, found: &mut Vec<Invalid>) -> Option<CheckedPath> {
    keep(check_path("/source".to_owned(), fields.get("source"), roots), found)
}

fn read_targets(fields: &Map<String, Value>, roots: &ContentRoots, found: &mut Vec<Invalid>) -> Vec<CheckedPath> {
    let Some(Value::Array(items)) = fields.get("targets") else {
        found.push(Invalid::new("/targets", "a list of directories"));
        return Vec::new();
    };
    if items.is_empty() || items.len() > TARGETS_MAX {
        found.push(Invalid::new("/targets", format!("1 to {TARGETS_MAX} directories")));
        return Vec::new();
    }
    let paths = items.iter().enumerate().map(|(i, item)| check_path(format!("/targets/{i}"), Some(item), roots));
    paths.filter_map(|path| keep(path, found)).collect()
}

fn keep(path: Result<CheckedPath, Invalid>, found: &mut Vec<Invalid>) -> Option<CheckedPath> {
    path.map_err(|wrong| found.push(wrong)).ok()
}

fn check_path(pointer: String, value: Option<&Value>, roots: &ContentRoots) -> Result<CheckedPath, Invalid> {
    let Some(Value::String(text)) = value else { return Err(Invalid::new(pointer, "the path of a directory")) };
    if text.contains('\0') {
        return Err(Invalid::new(pointer, "a path has no NUL character"));
    }
    let Some(named) = clean(Path::new(text)) else {
        return Err(Invalid::new(pointer, "an absolute path without '..'"));
    };
    match roots.canonical_spelling(&named) {
        Some(canonical) => Ok(CheckedPath { pointer, named, canonical }),
        None => Err(Invalid::new(pointer, "not under a content root of this server")),
    }
}

fn check_overlaps(source: Option<&CheckedPath>, targets: &[CheckedPath], found: &mut Vec<Invalid>) {
    if let Some(source) = source {
        for target in targets {
            if target.canonical.starts_with(&source.canonical) {
                found.push(Invalid::new(&target.pointer, "a target can't be the source or lie inside it"));
            } else if source.canonical.starts_with(&target.canonical) {
                found.push(Invalid::new(&target.pointer, "the source can't lie inside a target"));
            }
        }
    }
    // Sorted by its components, a path is followed directly by one that lies inside it.
    let mut sorted: Vec<_> = targets.iter().collect();
    sorted.sort_by(|a, b| a.canonical.cmp(&b.canonical));
    for [outer, inner] in sorted.array_windows() {
        if inner.canonical == outer.canonical {
            found.push(Invalid::new(&inner.pointer, format!("the same as {}", outer.pointer)));
        } else if inner.canonical.starts_with(&outer.canonical) {
            found.push(Invalid::new(&inner.pointer, format!("lies inside {}", outer.pointer)));
        }
    }
}
