//! What the input alone shows.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::roots::{Roots, clean};
use crate::task::Invalid;

/// How many targets one distribution may have.
const TARGETS_MAX: usize = 1000;

/// What to copy where; paths are absolute and without `.` or `..`.
#[derive(Debug)]
pub(super) struct Order {
    pub source: PathBuf,
    pub targets: Vec<PathBuf>,
    /// Read back and compare after all is copied.
    pub verify: bool,
}

impl Order {
    /// The order in `input`, or each field of it that can't be.
    pub fn parse(input: &Value, roots: &Roots) -> Result<Self, Vec<Invalid>> {
        let Value::Object(fields) = input else {
            return Err(vec![Invalid::new("", "an object: {\"source\": DIR, \"targets\": [DIR…], \"verify\"?: bool}")]);
        };
        let mut found = unknown(fields);
        let source = field_source(fields, roots, &mut found);
        let targets = field_targets(fields, roots, &mut found);
        let verify = match fields.get("verify") {
            None => false,
            Some(Value::Bool(verify)) => *verify,
            Some(_) => {
                found.push(Invalid::new("/verify", "true or false"));
                false
            }
        };
        overlaps(source.as_ref(), &targets, &mut found);
        match source {
            Some(source) if found.is_empty() => {
                let targets = targets.into_iter().map(|place| place.named).collect();
                Ok(Self { source: source.named, targets, verify })
            }
            _ => Err(found),
        }
    }
}

/// A path that lies inside the roots.
struct Place {
    pointer: String,
    named: PathBuf,
    /// In the spelling of its root, so that two ways to name one place are found equal.
    canonical: PathBuf,
}

fn unknown(fields: &Map<String, Value>) -> Vec<Invalid> {
    let known = |name: &str| matches!(name, "source" | "targets" | "verify");
    let pointer = |name: &str| format!("/{}", name.replace('~', "~0").replace('/', "~1"));
    fields.keys().filter(|name| !known(name)).map(|name| Invalid::new(pointer(name), "no such field")).collect()
}

fn field_source(fields: &Map<String, Value>, roots: &Roots, found: &mut Vec<Invalid>) -> Option<Place> {
    keep(place("/source".to_owned(), fields.get("source"), roots), found)
}

fn field_targets(fields: &Map<String, Value>, roots: &Roots, found: &mut Vec<Invalid>) -> Vec<Place> {
    let Some(Value::Array(items)) = fields.get("targets") else {
        found.push(Invalid::new("/targets", "a list of directories"));
        return Vec::new();
    };
    if items.is_empty() || items.len() > TARGETS_MAX {
        found.push(Invalid::new("/targets", format!("1 to {TARGETS_MAX} directories")));
        return Vec::new();
    }
    let places = items.iter().enumerate().map(|(i, item)| place(format!("/targets/{i}"), Some(item), roots));
    places.filter_map(|place| keep(place, found)).collect()
}

fn keep(place: Result<Place, Invalid>, found: &mut Vec<Invalid>) -> Option<Place> {
    place.map_err(|wrong| found.push(wrong)).ok()
}

fn place(pointer: String, value: Option<&Value>, roots: &Roots) -> Result<Place, Invalid> {
    let Some(Value::String(text)) = value else { return Err(Invalid::new(pointer, "the path of a directory")) };
    if text.contains('\0') {
        return Err(Invalid::new(pointer, "a path has no NUL character"));
    }
    let Some(named) = clean(Path::new(text)) else {
        return Err(Invalid::new(pointer, "an absolute path without '..'"));
    };
    match roots.place(&named) {
        Some(canonical) => Ok(Place { pointer, named, canonical }),
        None => Err(Invalid::new(pointer, "not under a content root of this server")),
    }
}

fn overlaps(source: Option<&Place>, targets: &[Place], found: &mut Vec<Invalid>) {
    if let Some(source) = source {
        for target in targets {
            if target.canonical.starts_with(&source.canonical) {
                found.push(Invalid::new(&target.pointer, "a target can't be the source or lie inside it"));
            } else if source.canonical.starts_with(&target.canonical) {
                found.push(Invalid::new(&target.pointer, "the source can't lie inside a target"));
            }
        }
    }
    // Sorted by their parts, what lies inside a place follows it directly.
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
