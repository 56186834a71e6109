//! The input of a distribution, and the checks that need no access to the disk.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::roots::{ContentRoots, normalize};
use crate::task::Invalid;

/// The most targets of one distribution.
const TARGETS_MAX: usize = 1000;

/// The source and the targets. All paths are absolute and without `.` or `..`.
#[derive(Debug)]
pub(super) struct DistributeInput {
    pub source: PathBuf,
    pub targets: Vec<PathBuf>,
    /// Whether to compare all copies with the source after the copy.
    pub verify: bool,
}

impl DistributeInput {
    /// Reads and checks `input`.
    ///
    /// # Errors
    /// Each invalid field.
    pub fn parse(input: &Value, roots: &ContentRoots) -> Result<Self, Vec<Invalid>> {
        let Value::Object(fields) = input else {
            return Err(vec![Invalid::new("", "an object: {\"source\": DIR, \"targets\": [DIR…], \"verify\"?: bool}")]);
        };
        let mut invalid = unknown_fields(fields);
        let source = read_source(fields, roots, &mut invalid);
        let targets = read_targets(fields, roots, &mut invalid);
        let verify = match fields.get("verify") {
            None => false,
            Some(Value::Bool(verify)) => *verify,
            Some(_) => {
                invalid.push(Invalid::new("/verify", "true or false"));
                false
            }
        };
        check_overlaps(source.as_ref(), &targets, &mut invalid);
        match source {
            Some(source) if invalid.is_empty() => {
                let targets = targets.into_iter().map(|target| target.path).collect();
                Ok(Self { source: source.path, targets, verify })
            }
            _ => Err(invalid),
        }
    }
}

/// A path that lies inside the content roots.
struct CheckedPath {
    json_pointer: String,
    /// The path in the input, normalized.
    path: PathBuf,
    /// The same path below the canonical path of its root. Paths to the same directory are equal in this form.
    canonical: PathBuf,
}

fn unknown_fields(fields: &Map<String, Value>) -> Vec<Invalid> {
    let known = |name: &str| matches!(name, "source" | "targets" | "verify");
    let json_pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    fields.keys().filter(|name| !known(name)).map(|name| Invalid::new(json_pointer(name), "no such field")).collect()
}

fn read_source(fields: &Map<String, Value>, roots: &ContentRoots, invalid: &mut Vec<Invalid>) -> Option<CheckedPath> {
    ok_or_collect(check_path("/source".to_owned(), fields.get("source"), roots), invalid)
}

fn read_targets(fields: &Map<String, Value>, roots: &ContentRoots, invalid: &mut Vec<Invalid>) -> Vec<CheckedPath> {
    let Some(Value::Array(items)) = fields.get("targets") else {
        invalid.push(Invalid::new("/targets", "a list of directories"));
        return Vec::new();
    };
    if items.is_empty() || items.len() > TARGETS_MAX {
        invalid.push(Invalid::new("/targets", format!("1 to {TARGETS_MAX} directories")));
        return Vec::new();
    }
    let paths = items.iter().enumerate().map(|(i, item)| check_path(format!("/targets/{i}"), Some(item), roots));
    paths.filter_map(|path| ok_or_collect(path, invalid)).collect()
}

/// Returns the path, or adds its error to `invalid`.
fn ok_or_collect(path: Result<CheckedPath, Invalid>, invalid: &mut Vec<Invalid>) -> Option<CheckedPath> {
    path.map_err(|error| invalid.push(error)).ok()
}

fn check_path(json_pointer: String, value: Option<&Value>, roots: &ContentRoots) -> Result<CheckedPath, Invalid> {
    let Some(Value::String(text)) = value else { return Err(Invalid::new(json_pointer, "the path of a directory")) };
    if text.contains('\0') {
        return Err(Invalid::new(json_pointer, "a path has no NUL character"));
    }
    let Some(path) = normalize(Path::new(text)) else {
        return Err(Invalid::new(json_pointer, "an absolute path without '..'"));
    };
    match roots.canonical_path(&path) {
        Some(canonical) => Ok(CheckedPath { json_pointer, path, canonical }),
        None => Err(Invalid::new(json_pointer, "not under a content root of this server")),
    }
}

/// Refuses targets that overlap with the source or with each other.
fn check_overlaps(source: Option<&CheckedPath>, targets: &[CheckedPath], invalid: &mut Vec<Invalid>) {
    if let Some(source) = source {
        for target in targets {
            if target.canonical.starts_with(&source.canonical) {
                invalid.push(Invalid::new(&target.json_pointer, "a target can't be the source or lie inside it"));
            } else if source.canonical.starts_with(&target.canonical) {
                invalid.push(Invalid::new(&target.json_pointer, "the source can't lie inside a target"));
            }
        }
    }
    // The paths are sorted by their components. So if a path lies inside another one, it follows that path in the list.
    let mut sorted: Vec<_> = targets.iter().collect();
    sorted.sort_by(|a, b| a.canonical.cmp(&b.canonical));
    for [outer, inner] in sorted.array_windows() {
        if inner.canonical == outer.canonical {
            invalid.push(Invalid::new(&inner.json_pointer, format!("the same as {}", outer.json_pointer)));
        } else if inner.canonical.starts_with(&outer.canonical) {
            invalid.push(Invalid::new(&inner.json_pointer, format!("lies inside {}", outer.json_pointer)));
        }
    }
}
